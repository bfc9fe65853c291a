"""Class prompts of the paper's UCF-101 models: a class name -> eight condition tokens.

The released models were trained with LLaMA's tokenizer. Its licence forbids bundling it here, so
the user puts its tokenizer.json into the model's folder. Source: the released data loader.
"""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import Tokenizer

from nbp_core.config.models import TransformerConfig

TOKENIZER_FILE = "tokenizer.json"
BOS, EOS = "<s>", "</s>"

_CLASS_NAMES = """
ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball
BasketballDunk BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling
BoxingPunchingBag BoxingSpeedBag BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling
CricketShot CuttingInKitchen Diving Drumming Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch
FrontCrawl GolfSwing Haircut Hammering HammerThrow HandstandPushups HandstandWalking HeadMassage
HighJump HorseRace HorseRiding HulaHoop IceDancing JavelinThrow JugglingBalls JumpingJack JumpRope
Kayaking Knitting LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks ParallelBars
PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano
PlayingSitar PlayingTabla PlayingViolin PoleVault PommelHorse PullUps Punch PushUps Rafting
RockClimbingIndoor RopeClimbing Rowing SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet
SkyDiving SoccerJuggling SoccerPenalty StillRings SumoWrestling Surfing Swing TableTennisShot TaiChi
TennisSwing ThrowDiscus TrampolineJumping Typing UnevenBars VolleyballSpiking WalkingWithDog
WallPushups WritingOnBoard YoYo
"""
UCF101_CLASSES = tuple(_CLASS_NAMES.split())
"""The class names in the data set's spelling."""


def has_text(config: TransformerConfig) -> bool:
    """Whether a model's conditions are the text of class names."""
    return config.layout == "hybrid" and config.prefix_len > 0 and not config.actions


def condition_names(config: TransformerConfig) -> tuple[str, ...]:
    """The names of actions or classes that a model was trained with."""
    return UCF101_CLASSES if has_text(config) else config.actions


def prompt_text(class_name: str) -> str:
    """'ApplyEyeMakeup' -> 'apply eye makeup'."""
    return re.sub("([a-z])([A-Z])", r"\1 \2", class_name).lower()


def prompt_ids(class_name: str, folder: Path, length: int) -> list[int]:
    """Token ids of a class prompt: BOS, the words, then EOS up to `length`.

    Raises ValueError if the model's folder has no tokenizer.json, or that of another tokenizer.
    """
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise ValueError(
            f"class prompts need LLaMA-2's {TOKENIZER_FILE}: put it into the model folder "
            f"{folder.name!r}"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{TOKENIZER_FILE} of model {folder.name!r} cannot be read") from error
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    if bos is None or eos is None:
        raise ValueError(
            f"{TOKENIZER_FILE} of model {folder.name!r} is not LLaMA's: it knows no {BOS} and {EOS}"
        )
    words = tokenizer.encode(prompt_text(class_name), add_special_tokens=False).ids
    ids = [bos, *words][:length]
    return ids + [eos] * (length - len(ids))
