"""Which of the words on standard input are no options of `swift rlhf`."""

import json
import sys
from dataclasses import fields

from swift.arguments import RLHFArguments

known = {field.name for field in fields(RLHFArguments)}
print(json.dumps([word for word in json.load(sys.stdin) if word not in known]))
