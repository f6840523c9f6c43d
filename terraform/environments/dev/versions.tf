terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }

  # The bucket, key and region come from `terraform init -backend-config=…`, see docs/deploy.md.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}
