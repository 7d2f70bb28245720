"""A structure on its way, in dynamics or relaxation: the gravest word so far, told once."""

from __future__ import annotations

from mlanet.limits.assess import INSIDE, OUTSIDE, UNKNOWN, Assessment, worse


class Watch:
    """Keeps the gravest assessment of a course.

    - worst: of them all · place: where that was, as it was given
    """

    def __init__(self) -> None:
        self.worst, self.place = Assessment(UNKNOWN), ""

    def sees(self, assessment: Assessment, place: str) -> str:
        """A line for people where this one is graver than all before; else empty.

        - place: e.g. "step 12"
        """
        if not worse(assessment.extrapolation, self.worst.extrapolation):
            return ""
        self.worst, self.place = assessment, place
        if assessment.extrapolation == INSIDE:
            return ""
        where = "at the edge of" if assessment.extrapolation != OUTSIDE else "outside"
        return f"{place}: {where} the training set: {assessment.reason}"

    @property
    def outside(self) -> bool:
        """Whether the course has left the training set."""
        return self.worst.extrapolation == OUTSIDE

    def numbers(self) -> dict[str, object]:
        """For a summary; empty where nothing is known."""
        if self.worst.extrapolation == UNKNOWN:
            return {}
        numbers: dict[str, object] = {"extrapolation": self.worst.extrapolation}
        if self.worst.reasons:
            numbers["extrapolation_reason"] = f"{self.place}: {self.worst.reason}"
        return numbers
