"""What atoms beyond every cutoff do to each other: dispersion and the Coulomb interaction of latent charges."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from mlanet.graph import AtomicGraph
from mlanet.nn.embedding import ChargeSettings
from mlanet.nn.free_atoms import free_c6, require_c6
from mlanet.ops.long_range.fourier_sum import smooth_sum
from mlanet.ops.long_range.power_law import PowerLaw
from mlanet.ops.segment import segment_sum
from mlanet.statistics import Statistics
from mlanet.units import COULOMB_CONSTANT

FADE = 2.0
"""eV of screened repulsion at which an atom has lost half of its latent charge."""
MOST = 1.5
"""Largest factor of √C₆ that can be learnt."""


class LongRangeSettings(ChargeSettings, frozen=True, kw_only=True):
    """Keys of the long-range term, the same for every model."""

    long_range: Literal["none", "dispersion", "coulomb", "both"] = "none"
    """`dispersion` −C₆/r⁶ holds layers and molecules together beyond the cutoff; `coulomb` lets the network give every
    atom a charge. Cost O(N log N), some 20 µs per atom."""
    c6: Literal["fixed", "learned"] = "fixed"
    """C₆ of the free atoms, or those times a factor that the network sees in its environment."""
    c6_least: float = 0.0
    """Smallest factor of √C₆ that can be learnt: 0 lets an ion lose all of it; models from before this key have 0.5."""
    free_c6: dict[str, float] = msgspec.field(default_factory=dict)
    """C₆ of free atoms in eV Å⁶ by element, e.g. `{Mo: 500.0}`, in the place of the tabulated ones."""
    charge_sum: Literal["free", "total"] = "free"
    """`total` makes the latent charges of a structure add up to its total charge; no longer local."""
    smearing: float = 1.5
    """Å; nearer than some 2.3 of it the term is damped, and the network's own energy takes over."""

    def __hash__(self) -> int:
        """Of all keys; a mapping among them has none of its own."""
        return hash(msgspec.json.encode(self))

    def long_range_errors(self) -> None:
        """Called from `__post_init__` of the models' configurations."""
        if self.long_range != "none" and getattr(self, "forces", "gradient") == "direct":
            raise ValueError("long_range is an energy and needs `forces: gradient`; direct forces would not know of it")
        if not 0.3 <= self.smearing <= 5.0:
            raise ValueError(f"smearing must lie between 0.3 and 5 Å, got {self.smearing}")
        if self.c6 != "fixed" and self.long_range not in ("dispersion", "both"):
            raise ValueError("c6 has a meaning only with `long_range: dispersion` or `both`")
        if not 0 <= self.c6_least < 1:
            raise ValueError(f"c6_least must lie between 0 and 1, got {self.c6_least}")
        if self.free_c6 and self.long_range not in ("dispersion", "both"):
            raise ValueError("free_c6 has a meaning only with `long_range: dispersion` or `both`")
        require_c6(self.free_c6)
        if self.charge_sum != "free" and self.long_range not in ("coulomb", "both"):
            raise ValueError("charge_sum has a meaning only with `long_range: coulomb` or `both`")

    @property
    def beyond_cutoff(self) -> bool:
        """Whether there is a long-range term."""
        return self.long_range != "none"

    @property
    def long_range_broken(self) -> set[str]:
        """Laws that charges which act at any distance give up."""
        return {"far fragments"} if self.long_range in ("coulomb", "both") else set()

    @property
    def reads_total_charge(self) -> bool:
        """Whether the total charge of a structure changes anything."""
        return self.charge == "total" or self.charge_sum == "total"


class LongRange(nn.Module):
    """E_i = ½ Σ_{j≠i} [k_e q_i q_j φ₁(r_ij) − √(C₆ᵢ C₆ⱼ) φ₆(r_ij)], all images included, φ_p → r⁻ᵖ beyond some 6σ.

    φ_p is r⁻ᵖ without its sharp part (`PowerLaw`): Gaussian charges, and for dispersion the damping
    1 − e^{−y}(1 + y + y²/2) with y = r²/2σ². C₆ are those of `free_c6`, `learned` ones times s². Charges are
    relative to those of lone atoms, so a neutral lone atom has none.

    Args:
        settings: which of the two, and how.
        statistics: species; a species without a known C₆ is an error.
        width: scalars per atom that charges and C₆ are read from.
    """

    root_c6: Tensor
    species_index: Tensor

    def __init__(self, settings: LongRangeSettings, statistics: Statistics, width: int) -> None:
        super().__init__()
        self.settings = settings
        kind = settings.long_range
        root = free_c6(statistics.species, settings.free_c6) if kind in ("dispersion", "both") else torch.zeros(0)
        self.register_buffer("root_c6", root.sqrt(), persistent=False)
        index = torch.zeros(256, dtype=torch.int64)
        index[list(statistics.species)] = torch.arange(len(statistics.species))
        self.register_buffer("species_index", index, persistent=False)
        self.charge = _readout(width, 0.1, bias=False) if kind in ("coulomb", "both") else None
        learned = settings.c6 == "learned" and kind in ("dispersion", "both")
        self.polarizability = _readout(width, 0.01, bias=True) if learned else None

    def forward(
        self, scalars: Tensor, lone: Tensor | None, wall: Tensor | None, graph: AtomicGraph
    ) -> tuple[Tensor, Tensor | None]:
        """Energies (N,) eV, and charges (N,) e if there are any.

        - scalars (N, width) · lone (N, width): of the same elements alone in space, or None for absolute charges
        - wall (N,) eV: the screened repulsion of each atom, nearer than any data. Charges that were made up there would
          pull a compressed crystal together, hence q / (1 + (wall / 2 eV)²); what was learnt, where it is 0, is kept
        """
        strengths, laws, charges = [], [], None
        if self.charge is not None:
            fade = None if wall is None else 1 / (1 + (wall / FADE).square())
            charges = self._charges(self.charge, scalars, lone, fade, graph)
            strengths.append(math.sqrt(COULOMB_CONSTANT) * charges)
            laws.append(PowerLaw(1, self.settings.smearing))
        if len(self.root_c6):
            strengths.append(self.root(scalars, graph))
            laws.append(PowerLaw(6, self.settings.smearing))
        energies = smooth_sum(
            torch.stack(strengths, dim=1), graph.positions, graph.cell, graph.pbc, graph.structure, laws
        )
        signs = energies.new_tensor([1.0 if law.exponent == 1 else -1.0 for law in laws])
        return energies @ signs, charges

    def _charges(
        self, readout: nn.Module, scalars: Tensor, lone: Tensor | None, fade: Tensor | None, graph: AtomicGraph
    ) -> Tensor:
        """q (N,) e."""
        charges: Tensor = readout(scalars)[:, 0]
        if lone is not None:
            charges = charges - readout(lone)[:, 0]
        if fade is not None:
            charges = charges * fade
        if self.settings.charge_sum == "free":
            return charges
        counts = graph.atoms_per_structure().to(charges.dtype)
        missing = graph.charge.to(charges.dtype) - segment_sum(charges, graph.structure, graph.n_structures)
        return charges + (missing / counts)[graph.structure]

    def root(self, scalars: Tensor, graph: AtomicGraph) -> Tensor:
        """√C₆ (N,), eV^½ Å³: of the free atoms, times s(x) = s₀ + (1.5 − s₀) σ(2x + ln(2 − 2s₀)), s₀ = `c6_least`.

        s is 1 at x = 0, the readout's about untrained answer, and stays between s₀ and 1.5.
        """
        free = self.root_c6.to(scalars.dtype)[self.species_index[graph.numbers]]
        if self.polarizability is None:
            return free
        least = self.settings.c6_least
        swing = torch.sigmoid(2 * self.polarizability(scalars)[:, 0] + math.log(2 - 2 * least))
        return free * (least + (MOST - least) * swing)


def _readout(width: int, size: float, *, bias: bool) -> nn.Sequential:
    """Scalars to one number per atom, about `size` at the start."""
    last = nn.Linear(width // 2, 1, bias=bias)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(size)
    return nn.Sequential(nn.Linear(width, width // 2), nn.SiLU(), last)
