variable "region" {
  description = "AWS region, such as eu-central-1"
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the name of an AWS region, such as eu-central-1."
  }
}

variable "account_id" {
  description = "AWS account that this environment is in, 12 digits; with credentials of another one nothing is touched"
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "account_id must be 12 digits: `aws sts get-caller-identity` says which they are."
  }
}

variable "image_digest" {
  description = "Digest of the image in the environment's repository: sha256 and 64 hex digits, as `docker push` prints it"
  type        = string
}

variable "emails" {
  description = "Addresses that alarms are sent to; each must confirm once"
  type        = set(string)

  validation {
    condition     = length(var.emails) > 0
    error_message = "emails must name at least one address: in production somebody is told."
  }
}

variable "runbook" {
  description = "Address under which those who are told read docs/runbook.md"
  type        = string
  default     = "docs/runbook.md"
}
