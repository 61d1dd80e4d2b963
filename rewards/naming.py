"""Which faults a text says that there are: words found, and denied ones left out.

After NegEx (Chapman et al. 2001, J. Biomed. Inform. 34:301-310): a word that denies ("no", "free of") reaches forward,
or from behind ("is absent") backward, over few words and no farther than its clause; what only looks like a denial
("not only", "no doubt") is listed. Beyond NegEx, a denied list ends where something is said of an item: of "no noise,
blur or banding" nothing is named, of "no noise, blur is strong" the blur. English only; what a text wishes or supposes
("would be sharper without the blur") is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

FORMS: Mapping[str, tuple[str, ...]] = {
    "blur": ("blurs", "blurry", "blurred", "blurring", "blurriness"),
    "rescale": ("rescaled", "rescaling"),
    "overexposure": ("overexposed", "over-exposed", "over-exposure"),
    "underexposure": ("underexposed", "under-exposed", "under-exposure"),
    "noise": ("noisy", "noisiness"),
    "compression": ("compressed",),
    "stutter": ("stutters", "stuttery", "stuttered", "stuttering"),
    "stall": ("stalls", "stalling", "stalled"),
    "frame drop": ("frame drops", "dropped frame", "dropped frames"),
}
"""Name -> other forms of the word; of names that are not here the very name is found, and nothing else."""

_FAULTS = "|".join(form for name, forms in FORMS.items() for form in (name, *forms))

# Each word of a text becomes one sign, the first that fits ("" for none). Patterns of signs then say what is denied.
_WORDS = {
    "w": (  # no denials, though they look like some
        r"not (?:only|just|merely|simply|solely|without|lacking|(?:free|devoid) (?:of|from))|never without"
        r"|no (?:doubt|question|lack|absence|less|more than)|without (?:a )?(?:doubt|question)|nothing (?:but|except)"
        r"|,? ?(?:such as|like|including)"
    ),
    # between a denial and what it denies
    "": (
        r"really|actually|even|any|at all|all|both|truly|quite|particularly|completely|entirely|practically|virtually"
        r"|(?:signs?|traces?|hints?|evidence) of"
    ),
    "N": (  # denies a list of nouns
        r"no longer|no|zero|not (?:a single|one)|without|neither|nor|none of"
        r"|(?:free|devoid|absence|absent) (?:of|from)|rather than|instead of"
        r"|as opposed to|(?:hardly|scarcely|barely) any"
    ),
    # denies the next word, and lists of nouns behind "show" and the like (v); "low noise", but not "low frame rate"
    "n": (
        r"not|never|nothing|hardly|scarcely|lack of|lacks|lacking"
        rf"|non(?=-(?:{_FAULTS})\b)"
        rf"|(?<!\ba )(?:little|low|minimal|negligible)(?=[\s-]+(?:{_FAULTS})\b)"
    ),
    "T": (  # ends a clause
        r"but|however|although|though|yet|while|whereas|except|besides|apart|aside|other|than|because|due|since|with"
        r"|despite|only|just|which|that|then|so|if|when|where"
    ),
    # denials that stand behind: "is absent" (A), "-free" (F), "is not visible" (V)
    "A": r"absent|missing|gone|non-?existent|nowhere|none",
    "F": r"free",
    "V": (
        r"visible|present|seen|noticeable|noticed|apparent|evident|found|detect(?:ed|able)|observ(?:ed|able)|there"
        r"|perceptible|discernible|occur|exist|appear|issues?|problems?|concerns?"
    ),
    # the rest tells where a list of denied nouns ends: verbs (v, b), degrees, articles, prepositions, general nouns
    "v": r"(?:show|see|contain|exhibit|display|suffer|notice?|find|detect|observe?|spot|reveal|look|seem)(?:ing)?|have",
    "b": r"is|are|was|were|has|had|shows|looks|sees|suffers|seems|appears|can|could|does|do|did|be|been|being",
    "d": r"(?:barely|slight|mild|moderate|strong|severe|heavy|heavi|clear)(?:ly)?|some",
    "e": r"an?|the|this|it|i|its|these|those|very|too",
    "p": r"to be|in|on|at|of|from|during|throughout|to|anywhere|whatsoever|here",
    "f": r"artifacts?|artefacts?|distortions?|effects?|defects?|degradations?|faults?",
    "o": r"or",
    "&": r"and",
}
_MARKS = {",": ",", "o": "/", "&": "[&+]", ":": r"[:=?\u2013\u2014]|(?<=\s)-(?=\s)", ".": r"[.;!)\n]"}

# K is a fault, S one with its degree before it; a fault of which something is said is no mere item of a list.
_FAULT, _BETWEEN = "[KS]f*", "[wdefpV]"
_ITEM = r"[wfp]{0,2}Kf*(?=[,o&.:TpVN]|$)"
_MORE = rf"(?:,?o{_BETWEEN}{{0,4}}{_FAULT}|(?:,|,?&){_ITEM}|[,o&]{{1,2}}[wf]{{1,2}}(?=[,o&]))"
_DENIED = re.compile(
    # "no visible blur or noise"; "no banding, noise or blur": behind another word only a list with "or" goes on
    rf"(?:N|nb?v)b?{_BETWEEN}{{0,5}}(?:{_FAULT}{_MORE}*|(?=[^.:T]{{0,20}}o){_MORE}+)"
    # "no frame is blurry", "none of the frames have noise"; what stands behind "is kept in" is not denied
    rf"|N[wefp]{{1,4}}[bv][deV]{{0,2}}{_FAULT}{_MORE}*"
    # "not blurry or noisy", but not "not sharp, blur everywhere"
    rf"|nb?{_BETWEEN}{{0,4}}{_FAULT}{_MORE}*"
    # "blur and noise are not visible", "blur is absent", "blur absent", "blur-free", "blur: none"
    rf"|{_FAULT}(?:p[weV]{{1,3}})?(?:[,o&]{{1,2}}[wd]{{0,2}}{_FAULT}){{0,9}}"
    r"(?:b{1,3}(?:[nN]b?[ep]?V|nv(?=[,.:T]|$)|A)|(?:A|nV)(?=[,.:T]|$)|F|:(?:A|nV|N(?=[,.:]|$)))"
)


def faults_named(text: str, kinds: Sequence[str], degrees: Sequence[str] = ()) -> dict[str, str | None]:
    """The faults that a text says that there are.

    Args:
        text: Words.
        kinds: Names of faults; case does not matter, and "_", "-" and a space are the same. Of names within one another
            ("motion blur", "blur") the longest counts. With a name in `FORMS` its other forms count.
        degrees: Words for how strong a fault is, as "slight"; "slightly" counts too.

    Returns:
        Kind, as spelt in `kinds` -> the degree directly before its first mention that is not denied, `None` where there
        is none. Linear in the text.

    Example:
        >>> faults_named("Severe blur and noisy shadows, but no banding.", ["blur", "noise", "banding"], ["severe"])
        {'blur': 'severe', 'noise': None}
    """
    finder, spelt = _finder(tuple(kinds), tuple(degrees))
    plain = re.sub(r"n['\u2019]t\b", " not", text.lower().replace("_", " ")).replace("cannot", "can not")
    signs: list[str] = []
    mentions: dict[int, tuple[str, str | None]] = {}
    for match in finder.finditer(plain):
        if match["kind"]:
            mentions[len(signs)] = spelt[_folded(match["kind"])], match["degree"]
            signs.append("S" if match["degree"] else "K")
        elif match["word"]:
            signs.append("w")
        else:
            signs.extend(_SIGNS[str(match.lastgroup)])
    denied = {place for span in _DENIED.finditer("".join(signs)) for place in range(*span.span())}
    named: dict[str, str | None] = {}
    for place, (kind, degree) in mentions.items():
        if place not in denied:
            named.setdefault(kind, degree)
    return named


_SIGNS = {f"s{i}": sign for i, sign in enumerate([*_WORDS, *_MARKS])}


@lru_cache(maxsize=64)
def _finder(kinds: tuple[str, ...], degrees: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """What finds the words of a text, and how each form of a kind is spelt in `kinds`."""
    spelt = {form: kind for kind in kinds for form in map(_folded, FORMS.get(_folded(kind), ()))}
    spelt |= {_folded(kind): kind for kind in kinds}
    names = "|".join(re.escape(form).replace(r"\ ", r"[\s-]+") for form in sorted(spelt, key=len, reverse=True))
    levels = "|".join(re.escape(word) for word in degrees)
    parts = [rf"(?:\b(?P<degree>{levels or '(?!)'})(?:ly)? )?\b(?P<kind>{names or '(?!)'})\b"]
    parts += [rf"(?P<s{i}>\b(?:{words})\b)" for i, words in enumerate(_WORDS.values())]
    parts += [rf"(?P<s{i}>{mark})" for i, mark in enumerate(_MARKS.values(), len(_WORDS))]
    return re.compile("|".join([*parts, r"(?P<word>[^\W_]+)"])), spelt


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.lower())
