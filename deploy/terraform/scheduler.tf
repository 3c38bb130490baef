# The service ticks by itself; this one comes from outside, so that the night's work is also begun where its own clock has stopped.
resource "google_cloud_scheduler_job" "tick" {
  count            = var.deploy && nonsensitive(var.tick_token != "") ? 1 : 0
  name             = "utxoiq-store-tick"
  region           = var.region
  schedule         = "* * * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = "180s"

  http_target {
    http_method = "POST"
    uri         = "${google_cloud_run_v2_service.store[0].uri}/api/v1/monitoring/schedule/tick"
    headers     = { Authorization = "Bearer ${var.tick_token}" }
  }
}

# Sunday, 03:30 UTC: the newest backup is restored and compared (C8.3).
resource "google_cloud_scheduler_job" "drill" {
  count     = var.deploy ? 1 : 0
  name      = "utxoiq-store-drill"
  region    = var.region
  schedule  = "30 3 * * 0"
  time_zone = "Etc/UTC"

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.of["drill"].id}:run"

    oauth_token {
      service_account_email = google_service_account.of["scheduler"].email
    }
  }
}

resource "google_cloud_run_v2_job_iam_member" "drill" {
  count    = var.deploy ? 1 : 0
  name     = google_cloud_run_v2_job.of["drill"].name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.of["scheduler"].member
}
