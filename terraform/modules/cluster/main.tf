# GPU instances that exist while there are tasks for them.

data "aws_partition" "current" {}

locals {
  # One step starts or stops at most so many instances: a GPU costs from its first minute, and what
  # a burst asks for is often over before the third has started.
  max_step = 2

  agent = {
    ECS_CLUSTER                       = var.name
    ECS_ENABLE_GPU_SUPPORT            = "true"
    ECS_ENABLE_SPOT_INSTANCE_DRAINING = "true"
    ECS_CONTAINER_STOP_TIMEOUT        = "${var.stop_timeout_seconds}s"
    # The image is some gigabytes, and named by digest: what was pulled once is what is meant. The
    # agent still removes images that no task uses any more.
    ECS_IMAGE_PULL_BEHAVIOR = "once"
    # What a task leaves on the disk, the next one needs: the agent would keep it for three hours.
    ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION = "1m"
    # The service watches for the spot notice itself; what the role that is read there may do,
    # docs/decisions.md says.
    ECS_AWSVPC_BLOCK_IMDS = "false"
  }
}

# ECS makes it by itself otherwise, without an end and without tags.
resource "aws_cloudwatch_log_group" "insights" {
  #checkov:skip=CKV_AWS_158: CloudWatch's own key encrypts it
  #checkov:skip=CKV_AWS_338: numbers of a minute, which CloudWatch keeps as metrics for longer
  name              = "/aws/ecs/containerinsights/${var.name}/performance"
  retention_in_days = var.log_retention_days
}

resource "aws_ecs_cluster" "this" {
  name = var.name

  # Scaling counts tasks that are wanted, which ECS says here only.
  setting {
    name  = "containerInsights"
    value = "enabled"
  }

  depends_on = [aws_cloudwatch_log_group.insights]
}

# --- one instance ---

resource "aws_iam_role" "instance" {
  name = "${var.name}-instance"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "instance" {
  role       = aws_iam_role.instance.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
}

resource "aws_iam_instance_profile" "instance" {
  name = "${var.name}-instance"
  role = aws_iam_role.instance.name
}

resource "aws_security_group" "instance" {
  name        = "${var.name}-instance"
  description = "ECS instances: nothing comes in"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-instance" }
}

resource "aws_vpc_security_group_egress_rule" "instance" {
  security_group_id = aws_security_group.instance.id
  description       = "HTTPS, to the AWS APIs"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_launch_template" "this" {
  #checkov:skip=CKV_AWS_341: the service reads the spot notice, and a container is one hop further
  name_prefix            = "${var.name}-"
  description            = "A GPU instance of the cluster ${var.name}"
  image_id               = "resolve:ssm:${var.ami_parameter}"
  update_default_version = true
  vpc_security_group_ids = [aws_security_group.instance.id]

  user_data = base64encode(join("\n", concat(
    ["#!/bin/bash", "cat >> /etc/ecs/ecs.config <<'END'"],
    [for name, value in local.agent : "${name}=${value}"],
    ["END", ""],
  )))

  iam_instance_profile {
    arn = aws_iam_instance_profile.instance.arn
  }

  # Two hops, because a container is one further: the service reads the spot notice.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = var.root_gib
      encrypted             = "true"
      delete_on_termination = "true"
    }
  }

  monitoring {
    enabled = true
  }

  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume"])

    content {
      resource_type = tag_specifications.value
      tags          = merge(var.tags, { Name = var.name })
    }
  }
}

# --- many ---

resource "aws_autoscaling_group" "this" {
  name                  = var.name
  min_size              = 0
  max_size              = var.max_instances
  vpc_zone_identifier   = var.subnet_ids
  protect_from_scale_in = true
  # Rebalancing starts replacements on a hint and ends instances with work on them. The notice two
  # minutes ahead is enough: the work goes on elsewhere.
  capacity_rebalance = false
  # ECS protects instances with tasks, and only a forced deletion takes those.
  force_delete = true

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = var.on_demand_base
      on_demand_percentage_above_base_capacity = var.on_demand_percent
      on_demand_allocation_strategy            = "prioritized"
      spot_allocation_strategy                 = "price-capacity-optimized"
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.this.id
        version            = "$Latest"
      }

      dynamic "override" {
        for_each = var.instance_types

        content {
          instance_type = override.value
        }
      }
    }
  }

  # ECS looks for this tag, and adds it if it is missing.
  tag {
    key                 = "AmazonECSManaged"
    value               = "true"
    propagate_at_launch = true
  }

  dynamic "tag" {
    for_each = var.tags

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false
    }
  }

  lifecycle {
    ignore_changes = [desired_capacity]
  }
}

resource "aws_ecs_capacity_provider" "this" {
  name = var.name

  auto_scaling_group_provider {
    auto_scaling_group_arn         = aws_autoscaling_group.this.arn
    managed_termination_protection = "ENABLED"
    managed_draining               = "ENABLED"

    managed_scaling {
      status                    = "ENABLED"
      target_capacity           = 100
      minimum_scaling_step_size = 1
      maximum_scaling_step_size = local.max_step
      instance_warmup_period    = 300
    }
  }

  # An account's first cluster makes the role that ECS scales with.
  depends_on = [aws_ecs_cluster.this]
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = [aws_ecs_capacity_provider.this.name]

  default_capacity_provider_strategy {
    capacity_provider = aws_ecs_capacity_provider.this.name
    weight            = 1
  }
}
