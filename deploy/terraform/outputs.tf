output "url" {
  description = "Where the service is, for what is in the network or comes by the load balancer."
  value       = one(google_cloud_run_v2_service.store[*].uri)
}

output "database_address" {
  description = "The database's private address."
  value       = google_sql_database_instance.store.private_ip_address
}

output "redis_address" {
  description = "Redis: host and port, over TLS."
  value       = "${google_redis_instance.store.host}:${google_redis_instance.store.port}"
}

output "archive_bucket" {
  description = "The bucket of archives."
  value       = google_storage_bucket.archive.name
}

output "backup_buckets" {
  description = "The buckets of backups."
  value       = [for bucket in google_storage_bucket.backups : bucket.name]
}
