locals {
  # What all of them are told.
  common = {
    UTXOIQ_STORE_DATABASE__TLS         = "verify-ca" # the instance has a CA of its own, whose certificates name the instance
    UTXOIQ_STORE_DATABASE__TLS_CA_FILE = "/secrets/database-ca/ca.pem"
    UTXOIQ_STORE_DATABASE__REGION      = var.region
    UTXOIQ_STORE_LOG__FORMAT           = "json"
  }
  archive = {
    UTXOIQ_STORE_COLD__URL = "gs://${google_storage_bucket.archive.name}/utxoiq"
  }
  backups = {
    UTXOIQ_STORE_BACKUP__RECOVERY_RECIPIENT = var.recovery_recipient
    UTXOIQ_STORE_BACKUP__DRILL_RECIPIENT    = var.drill_recipient
    UTXOIQ_STORE_BACKUP_STORE__URL          = "gs://${google_storage_bucket.backups["first"].name}/utxoiq"
    UTXOIQ_STORE_BACKUP_COPY__URL           = "gs://${google_storage_bucket.backups["second"].name}/utxoiq"
  }
  traces = var.collector == "" ? {} : {
    OTEL_EXPORTER_OTLP_ENDPOINT = var.collector
    OTEL_TRACES_SAMPLER         = "parentbased_traceidratio"
    OTEL_TRACES_SAMPLER_ARG     = "0.01"
  }

  service = {
    settings = merge(local.common, local.archive, local.backups, local.traces, {
      UTXOIQ_STORE_SERVER__LISTEN                 = "0.0.0.0:8080"
      UTXOIQ_STORE_SERVER__BEHIND_TLS             = "true"
      UTXOIQ_STORE_SERVER__TRUSTED_PROXIES        = "1"
      UTXOIQ_STORE_SERVER__SHUTDOWN_GRACE_SECONDS = "6" # Cloud Run kills after 10
      UTXOIQ_STORE_DATABASE__POOL_MAX             = tostring(var.pool_max)
      UTXOIQ_STORE_REDIS__TLS_CA_FILE             = "/secrets/redis-ca/ca.pem"
    })
    secrets = {
      DATABASE_URL                            = "database-url"
      REDIS_URL                               = "redis-url"
      UTXOIQ_STORE_DATABASE__RETENTION_URL    = "database-retention-url"
      UTXOIQ_STORE_DATABASE__BACKUP_URL       = "database-backup-url"
      UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY   = "pseudonym-key"
      UTXOIQ_STORE_ALERT__WEBHOOK_URL         = "alert-webhook-url"
      UTXOIQ_STORE_ALERT__WEBHOOK_SECRET      = "alert-webhook-secret"
      UTXOIQ_STORE_ALERT__WATCH_HEARTBEAT_URL = "watch-heartbeat-url"
    }
  }

  jobs = {
    init = {
      identity = "migrate"
      args     = ["init"]
      minutes  = 5
      settings = local.common
      secrets  = { DATABASE_ADMIN_URL = "database-admin-url" }
    }
    migrate = {
      identity = "migrate"
      args     = ["migrate", "up"]
      minutes  = 60
      settings = local.common
      secrets  = { DATABASE_ADMIN_URL = "database-admin-url" }
    }
    retention = {
      identity = "retention"
      args     = ["retention", "run", "--yes"]
      minutes  = 360
      settings = merge(local.common, local.archive)
      secrets = {
        DATABASE_URL                          = "database-url"
        UTXOIQ_STORE_DATABASE__RETENTION_URL  = "database-retention-url"
        UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY = "pseudonym-key"
      }
    }
    backup = {
      identity = "backup"
      args     = ["backup", "create"]
      minutes  = 360
      settings = merge(local.common, local.backups)
      secrets = {
        DATABASE_URL                          = "database-url"
        UTXOIQ_STORE_DATABASE__BACKUP_URL     = "database-backup-url"
        UTXOIQ_STORE_RETENTION__PSEUDONYM_KEY = "pseudonym-key"
      }
    }
    drill = {
      identity = "drill"
      args     = ["backup", "drill"]
      minutes  = 720
      settings = merge(local.common, local.backups)
      secrets = {
        DATABASE_URL                        = "database-url"
        UTXOIQ_STORE_DATABASE__DRILL_URL    = "database-drill-url"
        UTXOIQ_STORE_BACKUP__DRILL_IDENTITY  = "drill-identity"
      }
    }
  }
}

resource "google_cloud_run_v2_service" "store" {
  count               = var.deploy ? 1 : 0
  name                = "utxoiq-store"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
  deletion_protection = true

  template {
    service_account = google_service_account.of["service"].email
    timeout         = "3600s" # exports stream for as long as they are read

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }
    max_instance_request_concurrency = 500

    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = google_compute_network.store.id
        subnetwork = google_compute_subnetwork.store.id
      }
    }

    containers {
      image = var.image

      ports {
        container_port = 8080
      }

      # The processor is there also between requests: schedule, outbox and watch never rest.
      resources {
        limits            = { cpu = "2", memory = "2Gi" }
        cpu_idle          = false
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.service.settings
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.service.secrets
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.of[env.value].secret_id
              version = "latest"
            }
          }
        }
      }

      # Ready is who reaches the database and knows its schema: a new revision gets no request before.
      startup_probe {
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 60
        http_get {
          path = "/readyz"
        }
      }
      # Alive is another question: a process whose database is away must not be killed for it.
      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 2
        failure_threshold = 3
        http_get {
          path = "/healthz"
        }
      }

      volume_mounts {
        name       = "database-ca"
        mount_path = "/secrets/database-ca"
      }
      volume_mounts {
        name       = "redis-ca"
        mount_path = "/secrets/redis-ca"
      }
    }

    dynamic "volumes" {
      for_each = ["database-ca", "redis-ca"]
      content {
        name = volumes.value
        secret {
          secret = google_secret_manager_secret.of[volumes.value].secret_id
          items {
            version = "latest"
            path    = "ca.pem"
          }
        }
      }
    }
  }

  depends_on = [
    google_secret_manager_secret_iam_member.of,
    google_secret_manager_secret_version.database_ca,
    google_secret_manager_secret_version.redis_ca,
  ]
}

# Every call but three asks for a token of the store's own, or of an end user; Google's check before it would need the same header.
resource "google_cloud_run_v2_service_iam_member" "callers" {
  count    = var.deploy ? 1 : 0
  name     = google_cloud_run_v2_service.store[0].name
  location = var.region
  role     = "roles/run.invoker"
  member   = "allUsers"
}

resource "google_cloud_run_v2_job" "of" {
  for_each            = var.deploy ? local.jobs : {}
  name                = "utxoiq-store-${each.key}"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.of[each.value.identity].email
      timeout         = "${each.value.minutes * 60}s"
      max_retries     = 0 # what is to be tried again, a person or the next night tries

      vpc_access {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = google_compute_network.store.id
          subnetwork = google_compute_subnetwork.store.id
        }
      }

      containers {
        image = var.image
        args  = each.value.args

        resources {
          limits = { cpu = "2", memory = "4Gi" }
        }

        dynamic "env" {
          for_each = each.value.settings
          content {
            name  = env.key
            value = env.value
          }
        }
        dynamic "env" {
          for_each = each.value.secrets
          content {
            name = env.key
            value_source {
              secret_key_ref {
                secret  = google_secret_manager_secret.of[env.value].secret_id
                version = "latest"
              }
            }
          }
        }

        volume_mounts {
          name       = "database-ca"
          mount_path = "/secrets/database-ca"
        }
      }

      volumes {
        name = "database-ca"
        secret {
          secret = google_secret_manager_secret.of["database-ca"].secret_id
          items {
            version = "latest"
            path    = "ca.pem"
          }
        }
      }
    }
  }

  depends_on = [
    google_secret_manager_secret_iam_member.of,
    google_secret_manager_secret_version.database_ca,
  ]
}
