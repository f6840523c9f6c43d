variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "prefix" {
  description = "Keys of uploads begin with this; others are stored and not announced"
  type        = string

  validation {
    condition     = can(regex("^([^/*?$][^*?$]*/)?$", var.prefix))
    error_message = "prefix must be empty or end with a slash, not begin with one, and contain no *, ? or $: videos/, say."
  }
}

variable "suffixes" {
  description = "Keys of videos end with one of these, in lower or in upper case"
  type        = set(string)

  validation {
    condition     = length(var.suffixes) >= 1 && length(var.suffixes) <= 40 && alltrue([for suffix in var.suffixes : can(regex("^\\.[a-z0-9]+$", suffix))])
    error_message = "suffixes must be 1 to 40 endings with a dot in lower case, such as .mp4; upper case is added to each."
  }
}

variable "visibility_seconds" {
  description = "How long SQS hides a message that was received, until the first heartbeat changes that, s"
  type        = number

  validation {
    condition     = var.visibility_seconds >= 1 && var.visibility_seconds <= 43200
    error_message = "visibility_seconds must be 1 to 43200: SQS hides nothing for longer than 12 hours."
  }
}

variable "wait_time_seconds" {
  description = "Long poll, s"
  type        = number

  validation {
    condition     = var.wait_time_seconds >= 1 && var.wait_time_seconds <= 20
    error_message = "wait_time_seconds must be 1 to 20: SQS waits no longer, and with 0 every empty poll is paid for."
  }
}

variable "retention_days" {
  description = "How long the queue keeps a message, days"
  type        = number

  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 14
    error_message = "retention_days must be 1 to 14, the most that SQS keeps."
  }
}

variable "dlq_retention_days" {
  description = "How long the dead-letter queue keeps a message, counted from its first sending where SQS moved it, days"
  type        = number

  validation {
    condition     = var.dlq_retention_days <= 14 && var.dlq_retention_days > var.retention_days
    error_message = "dlq_retention_days must be above retention_days and at most 14: a message that SQS moves keeps its age."
  }
}

variable "max_receive_count" {
  description = "Deliveries until SQS itself moves a message to the dead-letter queue: a backstop behind the attempts that the database counts, since deploys, spot and busy deliveries count too"
  type        = number

  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000
    error_message = "max_receive_count must be 5 to 1000: below that, deploys and busy deliveries move healthy messages to the dead-letter queue."
  }
}

variable "raw_expiration_days" {
  description = "Uploads are deleted after this, days; null: never"
  type        = number

  validation {
    condition     = var.raw_expiration_days == null ? true : var.raw_expiration_days > var.dlq_retention_days
    error_message = "raw_expiration_days must be above dlq_retention_days, or null: a dead letter whose video is gone cannot be tried again."
  }
}

variable "noncurrent_days" {
  description = "Overwritten and deleted objects are kept this long, days"
  type        = number

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "noncurrent_days must be at least 1."
  }
}

variable "is_disposable" {
  description = "Whether destroying the environment also deletes what is in its buckets"
  type        = bool
}
