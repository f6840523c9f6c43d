variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "existing" {
  description = "A database that is there already: the secret with its login, and its URL without one, such as postgresql://host:5432/name?sslmode=require; null: make one"
  type = object({
    secret_arn = string
    url        = string
  })

  validation {
    condition     = var.existing == null ? true : can(regex("^arn:aws[a-z-]*:secretsmanager:[^:]+:[0-9]{12}:secret:.+$", var.existing.secret_arn))
    error_message = "existing.secret_arn must be the ARN of a Secrets Manager secret."
  }

  validation {
    condition     = var.existing == null ? true : can(regex("^postgres(ql)?://[^:/@]+(:[0-9]+)?/[^/?]+", var.existing.url))
    error_message = "existing.url must look like postgresql://host:5432/name?sslmode=require, and name no user and no password: those are in the secret."
  }

  validation {
    condition     = var.existing == null ? true : can(regex("[?&]sslmode=(require|verify-ca|verify-full)(&|$)", var.existing.url))
    error_message = "existing.url must end with ?sslmode=require: passwords and results go over the network."
  }
}

variable "vpc_id" {
  description = "VPC of the new database"
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the new database, in at least two availability zones"
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids needs at least two subnets: RDS demands two availability zones."
  }
}

variable "clients" {
  description = "Security groups that may connect, by what they are"
  type        = map(string)
}

variable "engine_version" {
  description = "PostgreSQL, as major version (newest minor) or in full. pgvector below 0.8.4 has a known fault in its index"
  type        = string

  validation {
    condition     = can(regex("^(1[5-9]|2[0-9])(\\.[0-9]+)?$", var.engine_version))
    error_message = "engine_version must be 15 or newer, such as 17 or 17.7: older ones lack the pgvector that is needed."
  }
}

variable "instance_class" {
  description = "RDS instance class"
  type        = string

  validation {
    condition     = can(regex("^db\\.[a-z0-9-]+\\.[a-z0-9]+$", var.instance_class))
    error_message = "instance_class must be one of RDS, such as db.t4g.medium: it begins with db."
  }
}

variable "storage_gib" {
  description = "Storage at the start, GiB"
  type        = number

  validation {
    condition     = var.storage_gib >= 20 && var.storage_gib <= 65536
    error_message = "storage_gib must be 20 to 65536."
  }
}

variable "max_storage_gib" {
  description = "RDS adds storage up to this, GiB"
  type        = number

  validation {
    condition     = var.max_storage_gib >= var.storage_gib * 1.1
    error_message = "max_storage_gib must be at least a tenth above storage_gib: raise it, or RDS cannot add storage and a full disk stops everything."
  }
}

variable "is_multi_az" {
  description = "Whether a standby in another zone takes over when this one fails"
  type        = bool
}

variable "backup_days" {
  description = "How far back the database can be restored, days"
  type        = number

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "backup_days must be 1 to 35; 0 would turn backups off."
  }
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the database's log, days"
  type        = number

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_retention_days)
    error_message = "log_retention_days must be one of those that CloudWatch offers, such as 1, 3, 5, 7, 14 or 30."
  }
}

variable "is_disposable" {
  description = "Whether destroying the environment deletes the database without a last snapshot"
  type        = bool
}
