"""ms-swift with our plug-in file, by its own loader: what the registered rewards pay, and what is refused."""

import importlib.util
import json
import sys

from swift.rewards import orms
from swift.utils import import_external_file

from vqathinker.rewards.adapters.__main__ import described

given = json.loads(sys.argv[1])
import_external_file(described("ms_swift").splitlines()[0])
names = ["vqa_format", "vqa_regression", "vqa_rank", "vqa_recommended"]
made = {name: orms[name](args=None) for name in names}
columns = {key: given[key] for key in ("mos", "video_id")}
paid = {name: reward(given["answers"], **columns, trainer_state=None) for name, reward in made.items()}
try:
    refused = str(orms["vqa_temporal"](args=None))
except ValueError as error:
    refused = str(error)
try:
    absent = made["vqa_regression"](given["answers"], video_id=given["video_id"])
except ValueError as error:
    absent = str(error)
print(
    "FOUND",
    json.dumps(
        {
            "paid": paid,
            "names": [reward.__name__ for reward in made.values()],
            "refused": refused,
            "absent": absent,
            "hidden": [name for name in ("core", "verl", "openrlhf", "areal") if importlib.util.find_spec(name)],
        }
    ),
)
