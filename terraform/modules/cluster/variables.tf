variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "vpc_id" {
  description = "VPC of the instances"
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the instances, in at least two availability zones"
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids needs at least two subnets, in different zones: GPU capacity runs out in one zone at a time."
  }
}

variable "instance_types" {
  description = "EC2 types with one NVIDIA GPU each, the preferred one first. All count the same, so they should be alike"
  type        = list(string)

  validation {
    condition     = length(var.instance_types) >= 1 && length(distinct(var.instance_types)) == length(var.instance_types) && length(var.instance_types) <= 40
    error_message = "instance_types needs 1 to 40 different types."
  }

  validation {
    condition     = alltrue([for type in var.instance_types : can(regex("^(g4dn|g5|g6|g6e)\\.(xlarge|2xlarge|4xlarge|8xlarge|16xlarge)$|^gr6\\.(4xlarge|8xlarge)$", type))])
    error_message = "instance_types must have exactly one NVIDIA GPU: xlarge, 2xlarge, 4xlarge, 8xlarge or 16xlarge of g4dn, g5, g6 or g6e, gr6.4xlarge or gr6.8xlarge. A task takes one GPU, so the others of a larger type would idle and be paid for."
  }
}

variable "max_instances" {
  description = "Most instances at once"
  type        = number

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 1000 && floor(var.max_instances) == var.max_instances
    error_message = "max_instances must be a whole number from 1 to 1000."
  }
}

variable "on_demand_base" {
  description = "Of the instances that run, the first so many are on demand; the others are spot, but for on_demand_percent"
  type        = number

  validation {
    condition     = var.on_demand_base >= 0 && var.on_demand_base <= var.max_instances
    error_message = "on_demand_base must be 0 to max_instances."
  }
}

variable "on_demand_percent" {
  description = "Of the instances above on_demand_base, so many are on demand, percent"
  type        = number

  validation {
    condition     = var.on_demand_percent >= 0 && var.on_demand_percent <= 100
    error_message = "on_demand_percent must be 0 to 100."
  }
}

variable "ami_parameter" {
  description = "Public SSM parameter that names the AMI; read anew by EC2 at each start of an instance"
  type        = string

  validation {
    condition     = can(regex("^/aws/service/ecs/optimized-ami/.*gpu.*/image_id$", var.ami_parameter))
    error_message = "ami_parameter must be the image_id of a GPU-optimised ECS AMI: without the driver the tasks find no GPU."
  }
}

variable "root_gib" {
  description = "Disk of an instance, for images and for the videos in flight, GiB"
  type        = number

  validation {
    condition     = var.root_gib >= 60 && var.root_gib <= 16384
    error_message = "root_gib must be 60 to 16384: the AMI and the image alone take about 40."
  }
}

variable "stop_timeout_seconds" {
  description = "A container that was told to stop is killed after this, s"
  type        = number

  validation {
    condition     = var.stop_timeout_seconds >= 30 && var.stop_timeout_seconds <= 120
    error_message = "stop_timeout_seconds must be 30 to 120: spot gives two minutes' notice."
  }
}

variable "tags" {
  description = "Tags of the instances and their volumes, which the provider's default tags do not reach"
  type        = map(string)
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps what the cluster says of its tasks, days"
  type        = number

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_retention_days)
    error_message = "log_retention_days must be one of those that CloudWatch offers, such as 1, 3, 5, 7, 14 or 30."
  }
}
