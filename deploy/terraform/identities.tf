# One for each thing that is done, with what it needs. None may change a bucket, a secret or another identity.
locals {
  identities = {
    service   = "Serves, and does what the schedule asks for"
    migrate   = "Lays roles and migrates; runs at deployments"
    retention = "Archives and deletes when a person asks for it"
    backup    = "Backs up when a person asks for it"
    drill     = "Restores the newest backup and compares; alone has the drill key"
    scheduler = "Starts the drill"
  }

  # Who reads which secret.
  readers = {
    database-url           = ["service", "retention", "backup", "drill"]
    database-admin-url     = ["migrate"]
    database-retention-url = ["service", "retention"]
    database-backup-url    = ["service", "backup"]
    database-drill-url     = ["drill"]
    database-ca            = ["service", "migrate", "retention", "backup", "drill"]
    redis-url              = ["service"]
    redis-ca               = ["service"]
    pseudonym-key          = ["service", "retention", "backup"]
    drill-identity         = ["drill"]
    alert-webhook-url      = ["service"]
    alert-webhook-secret   = ["service"]
    watch-heartbeat-url    = ["service"]
  }

  reads = merge([
    for secret, who in local.readers : {
      for one in who : "${secret}/${one}" => { secret = secret, who = one }
    }
  ]...)

  # Who does what with which bucket. Asking where a bucket is needs the last of them.
  writers = {
    archive = { bucket = google_storage_bucket.archive.name, who = ["service", "retention"] }
    first   = { bucket = google_storage_bucket.backups["first"].name, who = ["service", "backup"] }
    second  = { bucket = google_storage_bucket.backups["second"].name, who = ["service", "backup"] }
  }
  buckets = merge(
    merge([
      for name, one in local.writers : merge([
        for who in one.who : {
          "${name}/${who}/write" = { bucket = one.bucket, who = who, role = google_project_iam_custom_role.objects.id }
          "${name}/${who}/look"  = { bucket = one.bucket, who = who, role = "roles/storage.legacyBucketReader" }
        }
      ]...)
    ]...),
    {
      "first/drill/read" = { bucket = local.writers.first.bucket, who = "drill", role = "roles/storage.objectViewer" }
      "first/drill/look" = { bucket = local.writers.first.bucket, who = "drill", role = "roles/storage.legacyBucketReader" }
    },
  )
}

resource "google_service_account" "of" {
  for_each     = local.identities
  account_id   = "utxoiq-store-${each.key}"
  display_name = each.value
}

# Objects, and nothing of the bucket: roles/storage.objectAdmin could also change who may do what.
resource "google_project_iam_custom_role" "objects" {
  role_id     = "utxoiqStoreObjects"
  title       = "utxoIQ Store: objects"
  permissions = ["storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list", "storage.multipartUploads.create", "storage.multipartUploads.abort", "storage.multipartUploads.list", "storage.multipartUploads.listParts"]
}

resource "google_storage_bucket_iam_member" "of" {
  for_each = local.buckets
  bucket   = each.value.bucket
  role     = each.value.role
  member   = google_service_account.of[each.value.who].member
}

resource "google_secret_manager_secret_iam_member" "of" {
  for_each  = local.reads
  secret_id = google_secret_manager_secret.of[each.value.secret].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.of[each.value.who].member
}
