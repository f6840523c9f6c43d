# GPU instances that exist while there are tasks for them.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                 = "poller-test"
  vpc_id               = "vpc-1"
  subnet_ids           = ["subnet-1", "subnet-2"]
  instance_types       = ["g5.xlarge", "g4dn.xlarge"]
  max_instances        = 4
  on_demand_base       = 1
  on_demand_percent    = 0
  ami_parameter        = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
  root_gib             = 160
  stop_timeout_seconds = 120
  log_retention_days   = 7
  tags                 = { Application = "video-poller" }
}

run "instance" {
  command = plan

  module {
    source = "./modules/cluster"
  }

  assert {
    condition     = aws_launch_template.this.image_id == "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
    error_message = "The newest GPU-optimised AMI of AL2023."
  }

  assert {
    condition     = aws_launch_template.this.metadata_options[0].http_tokens == "required" && aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 2
    error_message = "IMDSv2 only, and a container reaches it."
  }

  assert {
    condition     = aws_iam_role_policy_attachment.instance.policy_arn == "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role" && aws_iam_role_policy_attachment.instance.role == aws_iam_role.instance.name && aws_iam_instance_profile.instance.role == aws_iam_role.instance.name
    error_message = "A container reads the instance's role, so that is the agent's own and no other."
  }

  assert {
    condition     = jsondecode(aws_iam_role.instance.assume_role_policy).Statement == [{ Action = "sts:AssumeRole", Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" } }]
    error_message = "Only EC2 takes the instance's role."
  }

  assert {
    condition = (
      aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted == "true"
      && aws_launch_template.this.block_device_mappings[0].ebs[0].volume_type == "gp3"
      && aws_launch_template.this.block_device_mappings[0].ebs[0].volume_size == 160
      && aws_launch_template.this.block_device_mappings[0].ebs[0].delete_on_termination == "true"
      && aws_launch_template.this.block_device_mappings[0].device_name == "/dev/xvda"
    )
    error_message = "Its disk is encrypted gp3, the one that the AMI starts from, and goes with it."
  }

  assert {
    condition = toset([
      for line in split("\n", base64decode(aws_launch_template.this.user_data)) : line if startswith(line, "ECS_")
      ]) == toset([
      "ECS_CLUSTER=poller-test", "ECS_ENABLE_GPU_SUPPORT=true", "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true",
      "ECS_CONTAINER_STOP_TIMEOUT=120s", "ECS_IMAGE_PULL_BEHAVIOR=once", "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=1m", "ECS_AWSVPC_BLOCK_IMDS=false",
    ])
    error_message = "The agent knows its cluster, GPUs, spot and how long a container may take to stop."
  }

  assert {
    condition     = strcontains(base64decode(aws_launch_template.this.user_data), "cat >> /etc/ecs/ecs.config <<'END'\n")
    error_message = "What the AMI itself tells the agent stays."
  }

  assert {
    condition     = aws_launch_template.this.monitoring[0].enabled && aws_launch_template.this.update_default_version
    error_message = "Its metrics come every minute, and a person who starts one by hand gets the newest version."
  }

  assert {
    condition     = aws_ecs_cluster.this.name == var.name
    error_message = "The cluster has the name that the instances ask for."
  }

  assert {
    condition     = aws_cloudwatch_log_group.insights.name == "/aws/ecs/containerinsights/poller-test/performance" && aws_cloudwatch_log_group.insights.retention_in_days == 7
    error_message = "What ECS writes of the tasks ends as all logs do, and goes with the cluster."
  }

  assert {
    condition     = toset([for specification in aws_launch_template.this.tag_specifications : specification.resource_type]) == toset(["instance", "volume"]) && alltrue([for specification in aws_launch_template.this.tag_specifications : specification.tags.Application == "video-poller"])
    error_message = "Instances and volumes are tagged."
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.instance.from_port == 443 && aws_vpc_security_group_egress_rule.instance.to_port == 443 && aws_vpc_security_group_egress_rule.instance.cidr_ipv4 == "0.0.0.0/0"
    error_message = "An instance speaks HTTPS only, to whom it likes: S3, where images lie, has no address of its own in the VPC."
  }
}

run "group" {
  command = plan

  module {
    source = "./modules/cluster"
  }

  assert {
    condition     = aws_autoscaling_group.this.min_size == 0 && aws_autoscaling_group.this.max_size == 4
    error_message = "From no instance to the most."
  }

  assert {
    condition     = aws_autoscaling_group.this.protect_from_scale_in && !aws_autoscaling_group.this.capacity_rebalance
    error_message = "Only ECS ends instances."
  }

  assert {
    condition     = aws_autoscaling_group.this.force_delete
    error_message = "What ECS protects can still be destroyed with the whole."
  }

  assert {
    condition     = aws_autoscaling_group.this.mixed_instances_policy[0].launch_template[0].launch_template_specification[0].version == "$Latest"
    error_message = "The next instance is the one that is described now."
  }

  assert {
    condition = (
      aws_autoscaling_group.this.mixed_instances_policy[0].instances_distribution[0].on_demand_base_capacity == 1
      && aws_autoscaling_group.this.mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 0
      && aws_autoscaling_group.this.mixed_instances_policy[0].instances_distribution[0].spot_allocation_strategy == "price-capacity-optimized"
      && aws_autoscaling_group.this.mixed_instances_policy[0].instances_distribution[0].on_demand_allocation_strategy == "prioritized"
    )
    error_message = "The first is on demand, the others are spot."
  }

  assert {
    condition     = [for override in aws_autoscaling_group.this.mixed_instances_policy[0].launch_template[0].override : override.instance_type] == ["g5.xlarge", "g4dn.xlarge"]
    error_message = "The types, in the order of preference."
  }

  assert {
    condition     = alltrue([for override in aws_autoscaling_group.this.mixed_instances_policy[0].launch_template[0].override : override.weighted_capacity == null])
    error_message = "No weights: an instance is a task."
  }

  assert {
    condition     = [for tag in aws_autoscaling_group.this.tag : tag.propagate_at_launch if tag.key == "AmazonECSManaged"] == [true]
    error_message = "Without this tag ECS adds it, and every plan removes it."
  }
}

run "capacity_provider" {
  command = plan

  module {
    source = "./modules/cluster"
  }

  assert {
    condition = (
      aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_termination_protection == "ENABLED"
      && aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_draining == "ENABLED"
      && aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].auto_scaling_group_arn == aws_autoscaling_group.this.arn
    )
    error_message = "Instances with tasks are kept, and drained before they go."
  }

  assert {
    condition = (
      aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_scaling[0].status == "ENABLED"
      && aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_scaling[0].target_capacity == 100
      && aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_scaling[0].minimum_scaling_step_size == 1
      && aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_scaling[0].maximum_scaling_step_size <= 2
      && aws_ecs_capacity_provider.this.auto_scaling_group_provider[0].managed_scaling[0].instance_warmup_period == 300
    )
    error_message = "ECS scales the group, by at most two instances a step."
  }

  assert {
    condition     = aws_ecs_cluster_capacity_providers.this.capacity_providers == toset(["poller-test"])
    error_message = "The cluster has this provider and no other."
  }

  assert {
    condition     = one(aws_ecs_cluster.this.setting).name == "containerInsights" && one(aws_ecs_cluster.this.setting).value == "enabled"
    error_message = "Scaling reads DesiredTaskCount from Container Insights."
  }
}
