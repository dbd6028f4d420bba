"""Which test set a clip belongs to: the columns of the paper's tables."""

_MEMBERS = {
    "UVG": "Beauty Bosphorus HoneyBee Jockey ReadySteadyGo ShakeNDry YachtRide",
    "MCL-JCV": " ".join(f"videoSRC{number:02d}" for number in range(1, 31)),
    "HEVC A": "Traffic PeopleOnStreet NebutaFestival SteamLocomotiveTrain",
    "HEVC B": "Kimono1 ParkScene Cactus BasketballDrive BQTerrace",
    "HEVC C": "BasketballDrill BQMall PartyScene RaceHorsesC",
    "HEVC D": "BasketballPass BQSquare BlowingBubbles RaceHorses",
    "HEVC E": "FourPeople Johnny KristenAndSara",
}
_SET_OF = {clip: name for name, clips in _MEMBERS.items() for clip in clips.split()}


def video_set_of(clip: str) -> str | None:
    """Name of the set that a sequence belongs to, or ``None`` for any other clip."""
    return _SET_OF.get(clip)
