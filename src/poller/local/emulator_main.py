"""LocalStack with the bytes of its objects in the directory that is given.

They would go to `/tmp/localstack-s3-storage`, whatever the environment says, and leave a directory
for each bucket behind.
"""

import sys

from localstack.runtime.main import main
from localstack.services.s3 import provider

if __name__ == "__main__":
    provider.DEFAULT_S3_TMP_DIR = sys.argv[1]
    main()  # type: ignore[no-untyped-call]  # it publishes no types
