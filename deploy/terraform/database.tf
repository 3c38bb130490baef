resource "google_sql_database_instance" "store" {
  name                = "utxoiq-store"
  region              = var.region
  database_version    = "POSTGRES_17"
  deletion_protection = true
  depends_on          = [google_service_networking_connection.services]

  settings {
    tier                        = var.database_tier
    edition                     = "ENTERPRISE"
    availability_type           = "REGIONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = var.database_disk_gigabytes
    disk_autoresize             = true
    deletion_protection_enabled = true

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.store.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    # Its own backups and point-in-time recovery, beside ours: they are of this instance, in reach of whoever administers it.
    backup_configuration {
      enabled                        = true
      start_time                     = "23:00"
      location                       = var.backup_region
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = 7
      }
    }

    maintenance_window {
      day          = 7
      hour         = 5
      update_track = "stable"
    }

    # All instances together, the jobs, and some to spare for people.
    database_flags {
      name  = "max_connections"
      value = tostring(var.max_instances * (var.pool_max + 8) + 60)
    }
    # Who waits in a transaction that somebody forgot keeps every reader's snapshot.
    database_flags {
      name  = "idle_in_transaction_session_timeout"
      value = "60000"
    }
    database_flags {
      name  = "log_min_duration_statement"
      value = "1000"
    }
    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }
  }
}

resource "google_sql_database" "store" {
  name     = "utxoiq"
  instance = google_sql_database_instance.store.name
}
