# Archives. Their objects really go when their time is up (feedback, jobs, samples: C7), so nothing here may keep them: no lock, no
# versions, no soft delete.
resource "google_storage_bucket" "archive" {
  name                        = "${var.project}-utxoiq-archive"
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  depends_on                  = [google_project_service.needed]

  versioning {
    enabled = false
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # A process that dies in the middle of an upload leaves parts that nobody sees.
  lifecycle_rule {
    condition {
      age = 2
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  # What is old is read seldom. Not colder than NEARLINE: objects stay for a year, and reading them must not cost more than keeping.
  lifecycle_rule {
    condition {
      age                   = 30
      matches_storage_class = ["STANDARD"]
    }
    action {
      type          = "SetStorageClass"
      storage_class = "NEARLINE"
    }
  }
}

locals {
  backup_buckets = {
    first  = { name = "${var.project}-utxoiq-backups", location = var.backup_region }
    second = { name = "${var.project}-utxoiq-backups-copy", location = var.backup_copy_region }
  }
}

# Backups, in other regions than the database (C8.4). What is kept is decided by the store, so that no rule deletes objects.
resource "google_storage_bucket" "backups" {
  for_each = local.backup_buckets

  name                        = each.value.name
  location                    = each.value.location
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  depends_on                  = [google_project_service.needed]

  # What anybody deletes stays restorable for so long. Erased persons' rows stay in it as long, too.
  soft_delete_policy {
    retention_duration_seconds = 14 * 24 * 3600
  }

  # Six days: a backup that is over is removed the night after, a week later at the earliest.
  dynamic "retention_policy" {
    for_each = each.key == "first" ? [true] : []
    content {
      is_locked        = var.lock_backups
      retention_period = 6 * 24 * 3600
    }
  }

  lifecycle_rule {
    condition {
      age = 2
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
}
