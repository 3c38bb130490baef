"""Settings, from the environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="INSIGHTS_")

    store_url: str = "http://127.0.0.1:8080"
    store_token: SecretStr
    """A service token with backfill:read, backfill:write, feedback:write, stats:read, metrics:write and act_as."""

    service_name: str = "insights"
    report_seconds: float = 10.0
    """How often metrics are sent."""

    max_waiting_samples: int = 10_000
    """How many may wait for a store that is away; beyond it the oldest go."""

    patience_seconds: float = 30.0
    """For how long one request to the store is tried again."""
