# The places of secrets. Their values are put there by people (README.md), so that no password is in Terraform's state. The two
# authorities are no secrets and come from the servers themselves.
resource "google_secret_manager_secret" "of" {
  for_each  = local.readers
  secret_id = "utxoiq-store-${each.key}"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
      replicas {
        location = var.backup_region
      }
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret_version" "database_ca" {
  secret      = google_secret_manager_secret.of["database-ca"].id
  secret_data = join("\n", google_sql_database_instance.store.server_ca_cert[*].cert)
}

resource "google_secret_manager_secret_version" "redis_ca" {
  secret      = google_secret_manager_secret.of["redis-ca"].id
  secret_data = join("\n", google_redis_instance.store.server_ca_certs[*].cert)
}
