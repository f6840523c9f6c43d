# Where the instances and the database live.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

override_resource {
  target          = aws_subnet.private["eu-central-1a"]
  override_during = plan
  values          = { id = "subnet-a" }
}

override_resource {
  target          = aws_subnet.private["eu-central-1b"]
  override_during = plan
  values          = { id = "subnet-b" }
}

variables {
  name     = "poller-test"
  existing = null
  cidr     = "10.40.0.0/16"
  zones    = []
  nat      = false
}

run "a_new_vpc_is_private" {
  command = plan

  module {
    source = "./modules/network"
  }

  assert {
    condition     = toset(keys(aws_subnet.private)) == toset(["eu-central-1a", "eu-central-1b"])
    error_message = "Two private subnets, in two zones."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.private : subnet.map_public_ip_on_launch != true])
    error_message = "Private subnets give no public address."
  }

  assert {
    condition     = length(aws_nat_gateway.this) + length(aws_internet_gateway.this) + length(aws_subnet.public) + length(aws_route.internet) == 0
    error_message = "Without NAT there is no way from or to the internet."
  }

  assert {
    condition     = aws_vpc_endpoint.s3[0].vpc_endpoint_type == "Gateway" && aws_vpc_endpoint.s3[0].service_name == "com.amazonaws.eu-central-1.s3"
    error_message = "S3 has a gateway."
  }

  assert {
    condition = toset([for endpoint in aws_vpc_endpoint.interface : endpoint.service_name]) == toset([
      for service in ["ecs", "ecs-agent", "ecs-telemetry", "ecr.api", "ecr.dkr", "logs", "sqs", "secretsmanager", "monitoring"] :
      "com.amazonaws.eu-central-1.${service}"
    ])
    error_message = "What the instances and the tasks speak to has an endpoint."
  }

  assert {
    condition = alltrue([
      for endpoint in aws_vpc_endpoint.interface :
      endpoint.private_dns_enabled && endpoint.vpc_endpoint_type == "Interface" && length(endpoint.security_group_ids) == 1
    ])
    error_message = "The endpoints answer to the usual names."
  }

  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.interface : endpoint.subnet_ids == toset(["subnet-a", "subnet-b"])])
    error_message = "Each endpoint is in all zones: one that is lost takes none of them from the others."
  }

  assert {
    condition     = [for filter in data.aws_availability_zones.available[0].filter : [filter.name, filter.values]] == [["opt-in-status", toset(["opt-in-not-required"])]] && data.aws_availability_zones.available[0].state == "available"
    error_message = "Local Zones have no place for the endpoints."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints[0].from_port == 443 && aws_vpc_security_group_ingress_rule.endpoints[0].to_port == 443 && aws_vpc_security_group_ingress_rule.endpoints[0].cidr_ipv4 == "10.40.0.0/16"
    error_message = "The endpoints take HTTPS from inside."
  }

  assert {
    condition     = aws_vpc.this[0].enable_dns_support && aws_vpc.this[0].enable_dns_hostnames
    error_message = "Private names of endpoints need DNS in the VPC."
  }
}

run "nat_is_optional" {
  command = plan

  variables {
    nat   = true
    zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  }

  module {
    source = "./modules/network"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_subnet.private) == 3 && length(aws_subnet.public) == 1
    error_message = "One NAT gateway for all zones."
  }

  assert {
    condition     = length(distinct(concat([for subnet in aws_subnet.private : subnet.cidr_block], [for subnet in aws_subnet.public : subnet.cidr_block]))) == 4
    error_message = "No range is given away twice."
  }
}

run "an_existing_vpc_is_taken_as_it_is" {
  command = plan

  variables {
    existing = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"] }
  }

  override_data {
    target          = data.aws_subnet.existing["subnet-1"]
    override_during = plan
    values          = { availability_zone = "eu-central-1a", map_public_ip_on_launch = false }
  }

  override_data {
    target          = data.aws_subnet.existing["subnet-2"]
    override_during = plan
    values          = { availability_zone = "eu-central-1b", map_public_ip_on_launch = false }
  }

  module {
    source = "./modules/network"
  }

  assert {
    condition     = length(aws_vpc.this) + length(aws_subnet.private) + length(aws_vpc_endpoint.s3) + length(aws_vpc_endpoint.interface) + length(aws_default_security_group.this) == 0
    error_message = "Nothing is made in it."
  }

  assert {
    condition     = output.vpc_id == "vpc-1" && output.subnet_ids == tolist(["subnet-1", "subnet-2"])
    error_message = "Its id and subnets are used."
  }
}

run "an_existing_vpc_needs_two_zones" {
  command = plan

  variables {
    existing = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"] }
  }

  override_data {
    target          = data.aws_subnet.existing
    override_during = plan
    values          = { availability_zone = "eu-central-1a", map_public_ip_on_launch = false }
  }

  module {
    source = "./modules/network"
  }

  expect_failures = [output.subnet_ids]
}
