terraform {
  required_version = ">= 1.7"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.0"
    }
  }

  # The state has the certificates of the servers and the token of the ticks in it, no password of the database: keep it in a bucket
  # that few may read. Give its name at `terraform init -backend-config=bucket=…`.
  backend "gcs" {
    prefix = "utxoiq-store"
  }
}

provider "google" {
  project = var.project
  region  = var.region
}
