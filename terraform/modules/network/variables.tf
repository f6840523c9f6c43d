variable "name" {
  description = "Prefix of every name"
  type        = string
}

variable "existing" {
  description = "A VPC that is there already, and its private subnets; null: make one. It needs a way to the AWS APIs (NAT or endpoints) and Amazon's own DNS, since nothing leaves to another one"
  type = object({
    vpc_id     = string
    subnet_ids = list(string)
  })

  validation {
    condition     = var.existing == null ? true : length(distinct(var.existing.subnet_ids)) >= 2
    error_message = "existing.subnet_ids needs at least two subnets, in different zones: name a second one."
  }
}

variable "cidr" {
  description = "IPv4 range of the new VPC"
  type        = string

  validation {
    condition     = can(cidrnetmask(var.cidr)) && try(tonumber(split("/", var.cidr)[1]) >= 16 && tonumber(split("/", var.cidr)[1]) <= 22, false)
    error_message = "cidr must be an IPv4 range from /16 to /22, such as 10.40.0.0/16: each zone takes a sixteenth of it."
  }
}

variable "zones" {
  description = "Availability zones of the new VPC, such as [\"eu-central-1a\", \"eu-central-1b\"]; empty: the first two of the region"
  type        = list(string)

  validation {
    condition     = length(var.zones) == 0 || (length(distinct(var.zones)) >= 2 && length(distinct(var.zones)) == length(var.zones) && length(var.zones) <= 8)
    error_message = "zones needs two to eight different availability zones: GPU capacity runs out in one at a time, and RDS demands two."
  }
}

variable "nat" {
  description = "Whether the new VPC gets a NAT gateway. The service needs none: what it speaks to has endpoints"
  type        = bool
}
