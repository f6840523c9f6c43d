# Where the instances and the database live: private subnets that reach AWS through endpoints.

data "aws_region" "current" {}

data "aws_availability_zones" "available" {
  count = var.existing == null && length(var.zones) == 0 ? 1 : 0
  state = "available"

  # Local zones have neither the instances nor the endpoints.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_subnet" "existing" {
  for_each = var.existing == null ? toset([]) : toset(var.existing.subnet_ids)
  id       = each.value
  vpc_id   = var.existing.vpc_id

  lifecycle {
    postcondition {
      condition     = !self.map_public_ip_on_launch
      error_message = "The subnet ${self.id} gives its instances public addresses: name a private one in existing.subnet_ids."
    }
  }
}

locals {
  is_new = var.existing == null
  zones  = length(var.zones) > 0 ? var.zones : try(slice(data.aws_availability_zones.available[0].names, 0, 2), [])

  # Private subnets take the first half of the range and public ones, where there is NAT, the second.
  private = local.is_new ? { for index, zone in local.zones : zone => cidrsubnet(var.cidr, 4, index) } : {}
  public  = local.is_new && var.nat ? { (local.zones[0]) = cidrsubnet(var.cidr, 4, 8) } : {}

  # What the instances and the tasks speak to; S3 has a gateway.
  interfaces = local.is_new ? toset([
    "ecs", "ecs-agent", "ecs-telemetry", "ecr.api", "ecr.dkr", "logs", "sqs", "secretsmanager", "monitoring",
  ]) : toset([])

  vpc_id     = local.is_new ? aws_vpc.this[0].id : var.existing.vpc_id
  subnet_ids = local.is_new ? [for zone in local.zones : aws_subnet.private[zone].id] : var.existing.subnet_ids
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11: flow logs cost by the byte, and videos are many bytes
  count                = local.is_new ? 1 : 0
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }
}

# Whatever is started without a security group of its own reaches nothing.
resource "aws_default_security_group" "this" {
  count  = local.is_new ? 1 : 0
  vpc_id = aws_vpc.this[0].id

  tags = { Name = "${var.name}-unused" }
}

resource "aws_subnet" "private" {
  for_each          = local.private
  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = each.value

  tags = { Name = "${var.name}-private-${each.key}" }
}

resource "aws_route_table" "private" {
  count  = local.is_new ? 1 : 0
  vpc_id = aws_vpc.this[0].id

  tags = { Name = "${var.name}-private" }
}

resource "aws_route_table_association" "private" {
  for_each       = aws_subnet.private
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[0].id
}

# --- to AWS ---

resource "aws_vpc_endpoint" "s3" {
  count             = local.is_new ? 1 : 0
  vpc_id            = aws_vpc.this[0].id
  service_name      = "com.amazonaws.${data.aws_region.current.name}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.private[0].id]

  tags = { Name = "${var.name}-s3" }
}

resource "aws_security_group" "endpoints" {
  count       = local.is_new ? 1 : 0
  name        = "${var.name}-endpoints"
  description = "Interface endpoints: HTTPS from inside the VPC"
  vpc_id      = aws_vpc.this[0].id

  tags = { Name = "${var.name}-endpoints" }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count             = local.is_new ? 1 : 0
  security_group_id = aws_security_group.endpoints[0].id
  description       = "HTTPS from inside the VPC"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = var.cidr
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = local.interfaces
  vpc_id              = aws_vpc.this[0].id
  service_name        = "com.amazonaws.${data.aws_region.current.name}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for zone in local.zones : aws_subnet.private[zone].id]
  security_group_ids  = [aws_security_group.endpoints[0].id]

  tags = { Name = "${var.name}-${each.key}" }
}

# --- to everything else, where that is wanted ---

resource "aws_internet_gateway" "this" {
  count  = length(local.public) > 0 ? 1 : 0
  vpc_id = aws_vpc.this[0].id

  tags = { Name = var.name }
}

resource "aws_subnet" "public" {
  for_each          = local.public
  vpc_id            = aws_vpc.this[0].id
  availability_zone = each.key
  cidr_block        = each.value

  tags = { Name = "${var.name}-public-${each.key}" }
}

resource "aws_route_table" "public" {
  count  = length(local.public) > 0 ? 1 : 0
  vpc_id = aws_vpc.this[0].id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "internet" {
  count                  = length(local.public) > 0 ? 1 : 0
  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  for_each       = aws_subnet.public
  subnet_id      = each.value.id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_eip" "nat" {
  for_each = aws_subnet.public
  domain   = "vpc"

  tags = { Name = "${var.name}-nat" }
}

resource "aws_nat_gateway" "this" {
  for_each      = aws_subnet.public
  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = each.value.id

  tags = { Name = var.name }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_route" "nat" {
  for_each               = aws_nat_gateway.this
  route_table_id         = aws_route_table.private[0].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = each.value.id
}
