output "vpc_id" {
  description = "The VPC"
  value       = local.vpc_id
}

output "subnet_ids" {
  description = "Private subnets, in at least two availability zones"
  value       = local.subnet_ids

  precondition {
    condition     = local.is_new ? length(local.zones) >= 2 : length(distinct([for subnet in data.aws_subnet.existing : subnet.availability_zone])) >= 2
    error_message = "The subnets are all in one availability zone: name one in another zone, in zones or in existing.subnet_ids."
  }
}
