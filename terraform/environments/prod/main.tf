# For the work: what is in it outlives mistakes, and a zone.

locals {
  name = "video-poller-prod"
  tags = { Application = "video-poller", Environment = "prod", ManagedBy = "terraform" }
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

  # Another range than dev has, so that one network can reach both.
  cidr = "10.41.0.0/16"

  max_tasks               = 20
  acceptable_wait_seconds = 600
  on_demand_base          = 1
  # Twenty instances take ten minutes to ask for, two at a time.
  capacity_minutes = 30

  database_class = "db.m7g.large"
  is_multi_az    = true
  backup_days    = 14

  # Write your own time zone here, such as Europe/Berlin: summer time is minded.
  warm = {
    start    = "cron(0 7 ? * MON-FRI *)"
    stop     = "cron(0 19 ? * MON-FRI *)"
    timezone = "UTC"
  }
}
