# It holds nothing that is not in the database: no persistence, and what is used least goes when it is full.
resource "google_redis_instance" "store" {
  name                    = "utxoiq-store"
  region                  = var.region
  tier                    = "STANDARD_HA"
  memory_size_gb          = var.redis_memory_gigabytes
  redis_version           = "REDIS_7_2"
  authorized_network      = google_compute_network.store.id
  connect_mode            = "PRIVATE_SERVICE_ACCESS"
  auth_enabled            = true
  transit_encryption_mode = "SERVER_AUTHENTICATION"
  depends_on              = [google_service_networking_connection.services]

  redis_configs = {
    maxmemory-policy = "allkeys-lru"
    maxmemory-gb     = tostring(var.redis_memory_gigabytes * 0.8)
  }

  persistence_config {
    persistence_mode = "DISABLED"
  }
}
