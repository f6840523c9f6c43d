# For trying things out: small, cheap, gone without a trace when it is destroyed.

locals {
  name = "video-poller-dev"
  tags = { Application = "video-poller", Environment = "dev", ManagedBy = "terraform" }
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = local.tags
  }
}

module "stack" {
  source = "../../modules/stack"

  name         = local.name
  tags         = local.tags
  image_digest = var.image_digest
  emails       = var.emails
  runbook      = var.runbook

  max_tasks               = 2
  acceptable_wait_seconds = 1800
  raw_expiration_days     = 30
  backup_days             = 1
  is_disposable           = true
}
