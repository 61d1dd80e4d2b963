"""Which of the words that it gets are no options of `swift rlhf`."""

import json
import sys
from dataclasses import fields

from swift.arguments import RLHFArguments

known = {field.name for field in fields(RLHFArguments)}
print("FOUND", json.dumps([word for word in json.loads(sys.argv[1]) if word not in known]))
