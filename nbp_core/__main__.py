"""python -m nbp_core <verb>"""

import sys

from nbp_core.cli.main import main

sys.exit(main())
