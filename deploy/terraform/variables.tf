variable "project" {
  description = "The project's id."
  type        = string
}

variable "region" {
  description = "Where the service and its database are."
  type        = string
  default     = "europe-west1"
}

variable "backup_region" {
  description = "Where backups are: another region than the database's (C8.4)."
  type        = string
  default     = "europe-west4"

  validation {
    condition     = var.backup_region != var.region
    error_message = "Backups belong into another region than the database (C8.4)."
  }
}

variable "backup_copy_region" {
  description = "Where the second copy of backups is."
  type        = string
  default     = "europe-north1"
}

variable "image" {
  description = "The image that deploy/Dockerfile makes, by its digest: name@sha256:…"
  type        = string
}

variable "database_tier" {
  description = "The size of the database's machine."
  type        = string
  default     = "db-custom-4-16384"
}

variable "database_disk_gigabytes" {
  description = "The disk to begin with; it grows by itself."
  type        = number
  default     = 100
}

variable "redis_memory_gigabytes" {
  description = "The memory of Redis."
  type        = number
  default     = 2
}

variable "min_instances" {
  description = "So many instances serve at least. Two, so that one may go at any time."
  type        = number
  default     = 2
}

variable "max_instances" {
  description = "So many at most. With pool_max they bound the connections: max_instances times pool_max stays below the database's."
  type        = number
  default     = 8
}

variable "pool_max" {
  description = "Connections of one instance (C6.1)."
  type        = number
  default     = 20
}

variable "recovery_recipient" {
  description = "The public recovery key, age1…; `utxoiq-store backup keygen` makes it, offline."
  type        = string
}

variable "drill_recipient" {
  description = "The public drill key, age1…"
  type        = string
}

variable "lock_backups" {
  description = "Whether the retention policy of the backups' bucket is locked. It can never be unlocked, and the bucket not be deleted with anything in it that is younger."
  type        = bool
  default     = true
}

variable "deploy" {
  description = "Whether service and jobs are made. First the rest, then the secrets' values, then these."
  type        = bool
  default     = true
}

variable "tick_token" {
  description = "A service token with the scope schedule:run, for Cloud Scheduler; empty while there is none."
  type        = string
  default     = ""
  sensitive   = true
}

variable "collector" {
  description = "Where traces go by OTLP over HTTP; empty for none."
  type        = string
  default     = ""
}
