"""The words and sentence patterns of the world, as plain data.

Content words belong to exactly one topic, so that the words of a text give its topic. `SYNONYMS` are the slots in
which writers differ: five interchangeable words each. A sentence pattern mixes literal words with content slots
({hero}, {object}, {place}, {folk}, {adjective}) and synonym slots ([went], [happy] ...). Which object belongs to which
topic is the world's stock of facts: questions ask for it, and reading stories is enough to learn it.
"""

from __future__ import annotations

from typing import NamedTuple


class Topic(NamedTuple):
    """Content words of one topic; every word belongs to one topic only."""

    object: tuple[str, ...]
    place: tuple[str, ...]
    folk: tuple[str, ...]
    adjective: tuple[str, ...]


def _topic(objects: str, places: str, folk: str, adjectives: str) -> Topic:
    return Topic(tuple(objects.split()), tuple(places.split()), tuple(folk.split()), tuple(adjectives.split()))


TOPICS: dict[str, Topic] = {
    "sea": _topic(
        "boat anchor shell net pearl sail oar compass",
        "harbour beach island reef",
        "sailor fisher captain mermaid",
        "salty blue wet sandy",
    ),
    "farm": _topic(
        "tractor bucket saddle plough egg fence haystack wagon",
        "barn field stable meadow",
        "farmer shepherd milkmaid rancher",
        "muddy woolly dusty ripe",
    ),
    "forest": _topic(
        "acorn log mushroom nest feather axe leaf branch",
        "glade cabin grove thicket",
        "woodcutter hunter fairy elf",
        "mossy leafy wild green",
    ),
    "school": _topic(
        "pencil ruler book chalk eraser desk map globe",
        "classroom library hallway playground",
        "teacher pupil principal janitor",
        "inky neat printed wooden",
    ),
    "castle": _topic(
        "crown sword shield throne goblet helm banner lance",
        "tower dungeon palace courtyard",
        "king queen knight princess",
        "royal golden noble jewelled",
    ),
    "kitchen": _topic(
        "spoon kettle cake pan oven loaf ladle knife",
        "pantry bakery cellar diner",
        "cook baker waiter butler",
        "spicy warm sugary buttered",
    ),
    "desert": _topic(
        "lamp tent rug flask scarf turban spade pot",
        "oasis dune canyon ruin",
        "nomad trader genie guide",
        "hot dry striped scorched",
    ),
    "mountain": _topic(
        "rope pick boot lantern sled ski flag whistle",
        "peak cave valley cliff",
        "climber miner hermit monk",
        "snowy icy rocky steep",
    ),
    "market": _topic(
        "coin apple scale purse cloak ribbon vase doll",
        "stall square shop fountain",
        "merchant tailor beggar cobbler",
        "cheap shiny costly woven",
    ),
    "garden": _topic(
        "rose seed hose rake pumpkin tulip carrot hedge",
        "greenhouse lawn orchard pond",
        "gardener beekeeper gnome florist",
        "fragrant sprouting thorny juicy",
    ),
    "moon": _topic(
        "rocket helmet telescope robot radio antenna satellite engine",
        "crater station planet comet",
        "astronaut pilot alien scientist",
        "metal glowing silver cosmic",
    ),
    "circus": _topic(
        "drum hoop trumpet mask cannon ball unicycle trapeze",
        "arena stage caravan ring",
        "clown juggler acrobat magician",
        "painted funny loud sparkly",
    ),
}

HEROES = tuple(["adam", "bella", "clara", "david", "emma", "felix", "greta", "henry", "iris", "jonas", "karen", "leo"])

SYNONYMS: dict[str, tuple[str, ...]] = {
    key: tuple(words.split())
    for key, words in {
        "went": "walked strolled wandered hurried marched",
        "ran": "ran raced dashed rushed sprinted",
        "saw": "saw noticed spotted spied glimpsed",
        "found": "found discovered uncovered located unearthed",
        "looked": "looked searched hunted scouted rummaged",
        "took": "took grabbed seized lifted snatched",
        "carried": "carried brought hauled dragged lugged",
        "gave": "gave handed offered passed sold",
        "said": "said replied answered whispered muttered",
        "shouted": "shouted yelled called screamed hollered",
        "asked": "asked questioned quizzed pressed probed",
        "cried": "cried wept sobbed wailed moaned",
        "laughed": "laughed giggled smiled grinned chuckled",
        "thanked": "thanked praised cheered hugged applauded",
        "wanted": "wanted hoped wished longed planned",
        "worried": "worried wondered brooded fretted dreamed",
        "learned": "learned realised understood knew accepted",
        "loved": "loved adored treasured cherished prized",
        "made": "made built crafted formed shaped",
        "worked": "worked laboured toiled practised trained",
        "helped": "helped aided assisted joined backed",
        "freed": "freed saved rescued released untied",
        "danced": "danced sang played feasted rejoiced",
        "hid": "hid buried tucked stashed concealed",
        "broke": "broke cracked smashed shattered ruined",
        "broken": "broken bent torn damaged wrecked",
        "fixed": "fixed mended repaired patched restored",
        "lost": "lost missing gone stolen hidden",
        "trapped": "trapped stuck caught locked stranded",
        "happy": "happy glad merry cheerful joyful",
        "sad": "sad gloomy unhappy tearful sorrowful",
        "brave": "brave bold daring fearless plucky",
        "kind": "kind gentle nice sweet caring",
        "clever": "clever smart wise bright cunning",
        "big": "big huge large giant enormous",
        "small": "small little tiny short puny",
        "old": "old ancient aged worn weathered",
        "strange": "strange odd curious peculiar weird",
        "pretty": "pretty lovely beautiful charming fine",
        "dark": "dark shadowy dim dusky murky",
        "stormy": "stormy rainy sunny misty windy",
        "day": "day morning afternoon evening night",
        "very": "very quite rather really truly",
        "quickly": "quickly swiftly rapidly briskly promptly",
        "slowly": "slowly gently quietly softly calmly",
        "under": "under behind beside near inside",
        "box": "box chest crate basket trunk",
        "gift": "gift present prize treasure reward",
        "problem": "problem trouble worry mess puzzle",
        "plan": "plan idea trick scheme notion",
        "surely": "surely certainly clearly plainly definitely",
        "often": "often always usually mostly sometimes",
        "keeps": "keeps stores uses needs wants",
        "choose": "choose name suggest propose offer",
    }.items()
}

OPENERS = ("", "then", "soon", "so", "well", "now", "later", "next", "meanwhile")
STOPS = (".", "!")

OPENINGS = (
    "one [stormy] [day] {hero} [went] to the [old] {place}",
    "in the [big] {place} there once lived {hero}",
    "on that [stormy] [day] {hero} was at the {place}",
    "{hero} [loved] the {place} and the {adjective} {object}",
    "{hero} once met the {folk} at the [old] {place}",
)
DESCRIPTIONS = (
    "the {place} was [dark] and [very] [strange]",
    "the {folk} there was [very] [kind] and [clever]",
    "{hero} was [brave] but also [very] [small]",
    "[under] the [big] [box] stood the {adjective} {object}",
    "the {adjective} {object} was [pretty] and [old]",
)
CLOSINGS = (
    "at last {hero} was [happy] in the {place}",
    "from that [day] on {hero} was [kind]",
    "{hero} [went] home and was [very] [happy]",
    "in the end the {folk} was [happy] too",
    "{hero} [loved] that [stormy] [day] forever",
)

ARCS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "search": (
        (
            "the {object} was [lost] and {hero} [cried]",
            "the {folk} [said] that the {object} was [lost]",
            "{hero} [saw] that the {adjective} {object} was [lost]",
        ),
        (
            "{hero} [looked] for the {object} [under] the [box]",
            "{hero} and the {folk} [looked] for it [slowly]",
            "{hero} [ran] to the {place} and [looked] there",
        ),
        (
            "{hero} [found] the {object} in the [dark] [box]",
            "the {folk} [found] it [under] the [big] [box]",
            "it was [under] the [box] and {hero} [saw] it",
        ),
        (
            "{hero} [carried] the {object} back to the {folk}",
            "the {folk} [thanked] {hero} for the {object}",
            "{hero} [gave] it to the [happy] {folk}",
        ),
    ),
    "gift": (
        (
            "{hero} [wanted] to make the {folk} [happy]",
            "{hero} had one [plan] for the {folk}",
            "the {folk} was [very] [sad] that [day]",
        ),
        (
            "{hero} [made] the [pretty] {object} [quickly]",
            "{hero} [worked] on the {adjective} {object}",
            "{hero} [took] the {object} and [made] it [pretty]",
        ),
        (
            "{hero} [gave] the {object} to the {folk}",
            "{hero} [carried] the [gift] to the {folk}",
            "the {folk} [saw] the [gift] and [laughed]",
        ),
        (
            "the {folk} [loved] the [pretty] [gift]",
            "the [happy] {folk} [thanked] {hero}",
            "{hero} and the {folk} [danced] at the {place}",
        ),
    ),
    "repair": (
        (
            "the {adjective} {object} was [broken]",
            "{hero} [broke] the {object} of the {folk}",
            "the {object} fell down and was [broken]",
        ),
        (
            "{hero} was [very] [sad] about the {object}",
            "the {folk} [cried] about the [problem]",
            "{hero} [worried] about the [problem] all [day]",
        ),
        (
            "{hero} [fixed] the {object} [slowly]",
            "{hero} and the {folk} [fixed] it [quickly]",
            "the [clever] {folk} [fixed] the {object}",
        ),
        (
            "the {object} was [pretty] once more",
            "the {folk} [laughed] and [thanked] {hero}",
            "{hero} [carried] the {object} to the {place}",
        ),
    ),
    "rescue": (
        (
            "the {folk} was [trapped] near the {place}",
            "{hero} [learned] that the {folk} was [trapped]",
            "the {folk} [shouted] for help from the {place}",
        ),
        (
            "{hero} [ran] to the {place} [quickly]",
            "{hero} [took] the {object} and [ran]",
            "{hero} was [brave] and [ran] to help",
        ),
        (
            "{hero} [helped] the {folk} with the {object}",
            "{hero} [freed] the {folk} with the {adjective} {object}",
            "the {adjective} {object} [freed] the {folk}",
        ),
        (
            "the {folk} [thanked] the [brave] {hero}",
            "they [ran] back to the {place} together",
            "the {folk} [gave] {hero} the {adjective} {object}",
        ),
    ),
    "secret": (
        (
            "{hero} [hid] the {object} [under] the [box]",
            "{hero} [wanted] to keep the {adjective} {object}",
            "{hero} [took] the {object} of the {folk}",
        ),
        (
            "the {folk} [looked] for the {object} everywhere",
            "the {folk} [asked] {hero} about the {object}",
            "the {folk} was [sad] and [cried]",
        ),
        (
            "{hero} was [very] sorry about the {object}",
            "{hero} [learned] that it was wrong",
            "{hero} [worried] about the [sad] {folk}",
        ),
        (
            "{hero} [gave] the {object} back [slowly]",
            "{hero} [said] sorry and the {folk} [laughed]",
            "{hero} [carried] the {object} back and [cried]",
        ),
    ),
    "contest": (
        (
            "{hero} [wanted] to win the contest",
            "the {folk} [shouted] that the contest began",
            "there was one [big] contest at the {place}",
        ),
        (
            "{hero} [worked] with the {object} all [day]",
            "{hero} [made] the [big] {object} for it",
            "the {folk} [helped] {hero} with the {object}",
        ),
        (
            "{hero} was [clever] and won the contest",
            "the {adjective} {object} won the contest",
            "the {folk} won but {hero} [laughed]",
        ),
        (
            "the {folk} [gave] the [gift] to {hero}",
            "{hero} got the [big] [gift]",
            "they all [danced] with the {object}",
        ),
    ),
}

OPEN_REQUESTS = (
    "tell me a story.",
    "please tell me a story.",
    "can you tell me a story?",
    "i want to hear a story.",
    "tell me a short tale.",
    "please tell me a short tale.",
    "can you tell me something new?",
    "i want to hear a tale.",
    "tell me something.",
    "do you know a story?",
    "do you know a short tale?",
    "make up a story for me.",
    "please make up a story.",
    "i want to hear something new.",
    "can you tell me a short tale?",
    "do you know something new?",
    "please tell me something.",
    "make up a short tale for me.",
)
TOPIC_REQUESTS = (
    "tell me a story about the {topic}.",
    "please tell me a story about the {topic}.",
    "can you tell me a story about the {topic}?",
    "i want to hear a story about the {topic}.",
    "tell me a short tale about the {topic}.",
    "do you know a tale about the {topic}?",
    "make up a story about the {topic} for me.",
    "can you tell me something about the {topic}?",
    "i want to hear something about the {topic}.",
    "please make up a tale about the {topic}.",
    "do you know a story about the {topic}?",
    "can you tell me a short tale about the {topic}?",
)
REMARKS = (
    "thank you for the [pretty] story!",
    "what a [pretty] story.",
    "that story was [very] [strange].",
    "i [loved] the story about the {topic}.",
    "{hero} was [very] [brave] in your story!",
    "your story was [very] short.",
)

QUESTIONS = (
    "where does the {object} belong?",
    "where is the {object} from?",
    "can you tell me where the {object} belongs?",
)
# The two sentences of an answer to a question: where the thing belongs, and who keeps it there. Between them a mistake
# can be taken back.
ANSWERS = (
    "the {object} [surely] belongs to the {topic}",
    "the {object} is [surely] from the {topic}",
    "that {object} is [surely] a thing of the {topic}",
)
KEEPINGS = (
    "the {folk} [often] [keeps] it at the {place}",
    "at the {place} the {folk} [often] [keeps] it",
    "ask the {folk} about it at the {place}",
)
CORRECTIONS = (
    "no the {object} [surely] belongs to the {topic}",
    "no it is [surely] from the {topic}",
    "that was wrong and it belongs to the {topic}",
)

# What a request can ask to name: a kind of content word, a hero, or a topic.
CATEGORIES = ("object", "place", "character", "hero", "topic")
NAME_REQUESTS = ("name {category}.", "can you name {category}?", "please choose {category}.")
# {thing} comes with its article, {category} without.
NAMINGS = (
    "i [choose] {thing}",
    "{thing} is a [pretty] {category}",
    "my {category} is {thing}",
)

PERSONAS = ("pirate", "poet", "wizard", "detective", "grandmother", "reporter")
PERSONA_TURNS = ("you are a {persona}.", "speak like a {persona}.")

# Words in which authorship can be asked about. No text of the world asks, but every tokenizer has them as whole words.
AUTHORSHIP = ("who", "wrote", "did", "you", "i", "this", "yes", "no", "not")
