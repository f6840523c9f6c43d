# What a plan knows only after an apply, in the shapes that the provider checks.

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_region" {
  defaults = { name = "eu-central-1" }
}

mock_data "aws_partition" {
  defaults = { partition = "aws" }
}

mock_data "aws_availability_zones" {
  defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
}

mock_data "aws_subnet" {
  defaults = { map_public_ip_on_launch = false }
}

mock_resource "aws_sqs_queue" {
  defaults = {
    arn = "arn:aws:sqs:eu-central-1:123456789012:uploads"
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/uploads"
  }
}

mock_resource "aws_s3_bucket" {
  defaults = { arn = "arn:aws:s3:::bucket", id = "bucket" }
}

mock_resource "aws_ecr_repository" {
  defaults = {
    arn            = "arn:aws:ecr:eu-central-1:123456789012:repository/poller-test"
    repository_url = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/poller-test"
  }
}

mock_resource "aws_db_instance" {
  defaults = {
    address = "poller-test.abc.eu-central-1.rds.amazonaws.com"
    master_user_secret = [{
      kms_key_id    = ""
      secret_arn    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-1"
      secret_status = "active"
    }]
  }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/role" }
}

mock_resource "aws_iam_instance_profile" {
  defaults = { arn = "arn:aws:iam::123456789012:instance-profile/profile" }
}

mock_resource "aws_launch_template" {
  defaults = { id = "lt-0123456789abcdef0" }
}

mock_resource "aws_autoscaling_group" {
  defaults = { arn = "arn:aws:autoscaling:eu-central-1:123456789012:autoScalingGroup:1:autoScalingGroupName/group" }
}

mock_resource "aws_ecs_cluster" {
  defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/poller-test" }
}

mock_resource "aws_ecs_task_definition" {
  defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:task-definition/poller-test:1" }
}

mock_resource "aws_ecs_capacity_provider" {
  defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:capacity-provider/poller-test" }
}

mock_resource "aws_service_discovery_service" {
  defaults = { arn = "arn:aws:servicediscovery:eu-central-1:123456789012:service/srv-1" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/ecs/poller-test" }
}

mock_resource "aws_appautoscaling_policy" {
  defaults = { arn = "arn:aws:autoscaling:eu-central-1:123456789012:scalingPolicy:1:resource/ecs/service/poller-test:policyName/policy" }
}

mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:alarms" }
}

mock_resource "aws_db_parameter_group" {
  defaults = { name = "poller-test-1" }
}

mock_resource "aws_service_discovery_private_dns_namespace" {
  defaults = { id = "ns-1" }
}

mock_resource "aws_security_group" {
  defaults = { id = "sg-1" }
}

# As AWS gives it where a capacity provider strategy is set; a configured one would prevail here.
mock_resource "aws_ecs_service" {
  defaults = { launch_type = "" }
}
