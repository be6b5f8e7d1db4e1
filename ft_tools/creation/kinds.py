"""How rows of each kind are asked for."""

from collections.abc import Mapping

from ft_tools.creation import answers, documents, new_inputs
from ft_tools.creation.prompts import Asking

KINDS: Mapping[str, Asking] = {
    "answers": Asking(answers.prompts, answers.read),
    "documents": Asking(documents.prompts, documents.read, documents.schema),
    "variations": Asking(new_inputs.prompts, new_inputs.read, new_inputs.schema),
}
