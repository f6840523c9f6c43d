# Where the service's images are kept.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name          = "poller-test"
  kept_images   = 20
  is_disposable = false
}

run "repository" {
  command = plan

  module {
    source = "./modules/image"
  }

  assert {
    condition     = aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE"
    error_message = "A tag names one image for ever."
  }

  assert {
    condition     = aws_ecr_repository.this.image_scanning_configuration[0].scan_on_push
    error_message = "What is pushed is scanned."
  }

  assert {
    condition = [
      for rule in jsondecode(aws_ecr_lifecycle_policy.this.policy).rules : [rule.selection.tagStatus, rule.selection.countNumber, rule.action.type]
    ] == [["untagged", 14, "expire"], ["any", 20, "expire"]]
    error_message = "The newest twenty are kept."
  }

  assert {
    condition     = !aws_ecr_repository.this.force_delete
    error_message = "Only a disposable environment is destroyed with its images."
  }
}
