"""MLANet: a dual-path dynamic attention network on irreps of any l_max, after arXiv 2603.22810.

The source fixes the architecture in words; equations, constants and defaults here are ours (docs/models/mlanet.md says
which is which), and every such choice is a switch of `MLANetConfig`.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import msgspec
import torch
from torch import Tensor, nn

from mlanet.config import require_at_most
from mlanet.errors import ConfigError
from mlanet.graph import AtomicGraph, ModelOutput
from mlanet.irreps import o3
from mlanet.models.contract import Model, ModelSettings
from mlanet.nn.alone import Alone
from mlanet.nn.bonded import BondedShift
from mlanet.nn.dual_path import AttentionShape, DualPathAttention, InteractionLayer, is_one_operation
from mlanet.nn.edges import Edges
from mlanet.nn.electric import AtomicDipoles, AtomicPolarizabilities
from mlanet.nn.elements import embedding
from mlanet.nn.embedding import ChargeEmbedding, EdgeDegreeEmbedding
from mlanet.nn.equivariant import natural_irreps
from mlanet.nn.floor import distance_floor
from mlanet.nn.heads import DirectForces, DirectStress
from mlanet.nn.long_range import LongRange, LongRangeSettings
from mlanet.nn.pooling import LocalPooling, Structures, SumPooling, build_pooling
from mlanet.nn.radial import BesselBasis, BondBasis, polynomial_envelope
from mlanet.nn.repulsion import WALL_LAWS, ScreenedRepulsion
from mlanet.ops import dispatch
from mlanet.ops.harmonics import harmonics
from mlanet.quantities import DEGREE_READ, Output
from mlanet.statistics import Statistics
from mlanet.units import MAX_CUTOFF

MOST_CHANNELS = 4096
MOST: dict[str, float] = {"layers": 64, "heads": 1024, "key_dim": 1024, "radial_functions": 512, "bond_functions": 512}
MOST |= {"hidden": 8192, "cutoff": MAX_CUTOFF}
"""Largest supported values, so that no network is begun that cannot be built."""


class MLANetConfig(
    LongRangeSettings,
    ModelSettings,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="model",
    tag="mlanet",
):
    """Everything that shapes the network; E-cost is cost per edge, N-cost per atom."""

    free_l_max: ClassVar[bool] = True
    optimizer: ClassVar[Literal["adamw", "muon"]] = "muon"

    irreps: str
    """Node features in e3nn notation, e.g. `64x0e+64x1o+64x2e`: natural parity, one multiplicity, l_max 1 to 3.
    Memory grows as (l_max + 1)² times the multiplicity."""
    layers: int = 3
    """Message-passing layers T; the receptive field is T times the cutoff, the cost T times one layer's."""
    cutoff: float = 5.0
    """r_c in Å; edges grow as its cube."""
    heads: int = 4
    """Attention heads H; must divide the multiplicity."""
    key_dim: int = 8
    """Keys per head d_k; E-cost of the logits is H d_k (l_max + 1)²."""
    radial_functions: int = 8
    """Bessel functions B."""
    bond_functions: int = 0
    """Gaussians of r/(R_i + R_j) beside them, with a trainable radius for each element: for many elements, some 6."""
    elements: Literal["learned", "periodic"] = "learned"
    """`learned`: a free row for each element. `periodic`: beside it, a part that the periodic table gives, which
    similar elements share: for many elements (mlanet/nn/elements.py)."""
    radial_hidden: tuple[int, ...] = ()
    """Hidden widths of the radial networks; none: filters linear in the basis, the cheapest, at no cost in accuracy."""
    hidden: int = 64
    """Width R of the edge state z_ij; E-cost R · multiplicity · (l_max + 1) / `gate_channels`."""
    gate_channels: int = 1
    """Neighbouring channels that share a gate; must divide the multiplicity. With 4, fused kernels
    on a CPU take 9 to 17 % less time (docs/log/2026-11-21-4-messages.md)."""
    attention: Literal["tp_dot", "fctp", "gatv2", "none"] = "tp_dot"
    """How neighbours are weighed: query·key and query·Y; a full tensor product; scalars only; not at all."""
    message: Literal["light", "full"] = "light"
    """`light` has no tensor product on edges; `full` has all of them: smaller errors for 1 (l_max 1) to 2.5 times
    (l_max 3) the time with fused kernels, 10 times without."""
    combine: Literal["product", "sum"] = "product"
    """Whether the chemical gate multiplies the attention or stands beside it."""
    attention_envelope: Literal["twice", "once"] = "twice"
    """`twice`: the envelope stands in the softmax and before it, u α; `once`: in the softmax only, so that distant
    neighbours count for more (docs/accuracy.md)."""
    output_gate: Literal["none", "head"] = "none"
    """`head`: each atom multiplies what every head has gathered by 2 σ(w·s + b) of its own scalars."""
    node_product: Literal["none", "uuu"] = "uuu"
    """h ⊗ h at the nodes raises the body order at N-cost; with `light` messages it brings the angles into energies."""
    norm: Literal["none", "rms"] = "rms"
    """Equivariant RMS norm of what attention and node product see; keeps sizes of order one at any depth."""
    pooling: Literal["local", "sum", "extensive", "paper"] = "local"
    """How atoms make an energy; only `local` and `sum` are extensive, additive and local."""
    pooling_bound: float | None = 6.0
    """b of `local`, which sees neighbours through b tanh(x/b), so that they leave as slowly as their envelope; null:
    without bound, as models from before this key (docs/physics.md)."""
    isolated_atom: Literal["zero", "free"] = "zero"
    """`zero`: a lone neutral atom has exactly its reference energy E₀ (modes `local` and `sum`)."""
    bonded: Literal["none", "learned"] = "none"
    """`learned`: an energy per element of atoms that have neighbours; for references of free atoms, it takes the
    cohesion of the elements off the network (mlanet/nn/bonded.py)."""
    forces: Literal["gradient", "direct"] = "gradient"
    """`gradient`: F = −∂E/∂R and stress from strain. `direct`: heads, about twice as fast, not conservative."""
    repulsion: Literal["none", "zbl"] = "zbl"
    """`zbl` adds the screened nuclear repulsion nearer than any training data, where nothing says that atoms repel."""
    outputs: tuple[Output, ...] = ()
    """`dipole`, of structures that are periodic in no direction, and `polarizability`, which needs l_max 2 or 3: beside
    energy, forces and stress. The last layer then keeps degrees up to 1 or 2, at up to a third of its cost more."""

    def __post_init__(self) -> None:
        self.long_range_errors()
        irreps = _parsed(self.irreps)
        channels, l_max = irreps[0].mul, irreps.lmax
        if channels > MOST_CHANNELS:
            raise ValueError(f"irreps '{self.irreps}': the multiplicity must be at most {MOST_CHANNELS}")
        if not 1 <= l_max <= 3 or irreps != natural_irreps(channels, l_max):
            raise ValueError(
                f"irreps '{self.irreps}' are not supported: l = 0 … l_max (1, 2 or 3), natural parity, "
                f"one multiplicity, e.g. '{natural_irreps(channels, min(max(l_max, 1), 3))}'"
            )
        for name in ("layers", "heads", "key_dim", "radial_functions", "hidden", "gate_channels", "cutoff"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if self.bond_functions < 0:
            raise ValueError(f"bond_functions must not be negative, got {self.bond_functions}")
        require_at_most(self, MOST)
        if self.pooling_bound is not None and not 0 < self.pooling_bound < math.inf:
            raise ValueError(f"pooling_bound must be positive and finite, or null, got {self.pooling_bound}")
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"outputs: {', '.join(self.outputs)} names one twice")
        if self.response_degree > l_max:
            raise ValueError(
                f"outputs: polarizability is read from features of degree 2 and needs l_max 2 or 3; irreps "
                f"'{self.irreps}' have l_max {l_max}"
            )
        if any(not 0 < width <= MOST["hidden"] for width in self.radial_hidden) or len(self.radial_hidden) > 8:
            raise ValueError(
                f"radial_hidden: at most 8 widths, which must be positive and at most {MOST['hidden']}, "
                f"got {list(self.radial_hidden[:9])}"
            )
        if channels % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide the multiplicity of the irreps ({channels})")
        if channels % self.gate_channels:
            raise ValueError(
                f"gate_channels ({self.gate_channels}) must divide the multiplicity of the irreps ({channels})"
            )

    @property
    def broken_laws(self) -> frozenset[str]:
        """Names of the laws (`mlanet.laws`) that the switches give up."""
        broken = set()
        if self.forces == "direct":
            # The heads read features that jump in their derivative only, but their work is not an energy difference.
            broken |= {"forces", "stress", "reciprocity", "leaving neighbour"}
        if self.pooling in ("paper", "extensive"):
            # The maximum over atoms also has kinks, where forces jump.
            broken |= {"far fragments", "lone atom", "reciprocity"}
        if self.pooling == "paper":
            broken |= {"supercell"}
        if self.isolated_atom == "free":
            broken |= {"lone atom"}
        if self.repulsion == "none" or self.forces == "direct":
            broken |= WALL_LAWS
        return frozenset(broken | self.long_range_broken | self.charge_broken)

    @property
    def l_max(self) -> int:
        """Highest degree of the features."""
        return _parsed(self.irreps).lmax

    @property
    def response_degree(self) -> int:
        """Highest degree that `outputs` are read from; 0 without any."""
        return max((DEGREE_READ[name] for name in self.outputs), default=0)

    @property
    def channels(self) -> int:
        """Multiplicity C of every degree."""
        return _parsed(self.irreps)[0].mul

    def with_l_max(self, l_max: int) -> Self:
        """`C × (l, (−1)^l)` for l = 0 … l_max: the parities of the spherical harmonics, the same multiplicity."""
        return msgspec.structs.replace(self, irreps=str(natural_irreps(self.channels, l_max)))

    def with_channels(self, channels: int) -> Self:
        """Another multiplicity of every degree."""
        return msgspec.structs.replace(self, irreps=str(natural_irreps(channels, self.l_max)))

    def build(self, statistics: Statistics) -> MLANet:
        """The untrained network."""
        return MLANet(self, statistics)


def _parsed(text: str) -> o3.Irreps:
    """e3nn's own reading of the string, with an error that quotes it."""
    if len(text) > 100:
        raise ValueError(f"irreps '{text:.40}…' cannot be read: {len(text)} characters, expected at most 100")
    try:
        irreps = o3.Irreps(text)
    except (ValueError, AssertionError, IndexError):
        irreps = o3.Irreps()
    if not len(irreps) or irreps.dim == 0:
        raise ValueError(f"irreps '{text}' cannot be read; expected e3nn notation such as '64x0e+64x1o+64x2e'")
    return irreps


class MLANet(Model):
    """Graph -> site energies (and direct forces and stress if configured).

    Args:
        config: shape and switches.
        statistics: species it will know, and what the training set says of their environments.
    """

    config: MLANetConfig
    species_index: Tensor

    def __init__(self, config: MLANetConfig, statistics: Statistics) -> None:
        super().__init__(config)
        species = statistics.species
        irreps, mean_neighbors = o3.Irreps(config.irreps), statistics.mean_neighbors
        index = torch.full((256,), len(species), dtype=torch.int64)
        index[list(species)] = torch.arange(len(species))
        self.register_buffer("species_index", index, persistent=False)
        self.n_species = len(species)
        self.embedding = embedding(config.elements, species, config.channels)
        self.sender = embedding(config.elements, species, config.channels)
        self.charge = None if config.charge == "none" else ChargeEmbedding(config.channels, config)
        self.radial = BesselBasis(config.radial_functions, config.cutoff)
        self.bonds = BondBasis(config.bond_functions, species) if config.bond_functions else None
        functions = config.radial_functions + config.bond_functions
        self.directions = EdgeDegreeEmbedding(irreps, functions, config.radial_hidden, mean_neighbors)
        self.layers = nn.ModuleList(_layers(config, irreps, mean_neighbors))
        self.pooling = build_pooling(config.pooling, config.channels, mean_neighbors, config.pooling_bound)
        self.repulsion = ScreenedRepulsion(statistics) if config.repulsion == "zbl" else None
        self.floor = distance_floor(statistics, config.cutoff) if config.repulsion == "zbl" else None
        self.bonded = BondedShift(len(species)) if config.bonded == "learned" else None
        self.long_range = None if config.long_range == "none" else LongRange(config, statistics, config.channels)
        self.direct_forces = DirectForces(irreps) if config.forces == "direct" else None
        self.direct_stress = DirectStress(irreps) if config.forces == "direct" else None
        channels, wants = config.channels, config.outputs
        self.dipole = AtomicDipoles(channels) if "dipole" in wants else None
        self.polarizability = AtomicPolarizabilities(channels, len(species)) if "polarizability" in wants else None

    def without_kernels(self) -> str:
        """Why this model, wherever it is, is computed in plain torch only; empty if it may have kernels."""
        config = self.config
        if is_one_operation(config.attention, config.message, config.combine):
            return ""
        return (
            "needs attention: tp_dot or none, and combine: product with message: full; this model has "
            f"attention: {config.attention}, message: {config.message} and combine: {config.combine}"
        )

    def kernels_obstacle(self) -> str:
        """Why kernels do not serve this model where it is and in its precision; empty if they do."""
        (first, *_) = (module for module in self.layers.modules() if isinstance(module, DualPathAttention))
        return dispatch.message_obstacle(first.message_shape(), first.value.weight, first.message_weights())

    def tabulate(self) -> Model:
        """Refused: filters depend on more than the distance."""
        raise ConfigError("only LEIGNN's radial filters can be tabulated; MLANet's depend on more than the distance")

    def last_linear(self) -> nn.Linear | None:
        """The end of the read-out of each atom; none where atoms are pooled into one."""
        last = self.pooling.readout[-1] if isinstance(self.pooling, SumPooling | LocalPooling) else None
        return last if isinstance(last, nn.Linear) else None

    @property
    def conservative(self) -> bool:
        """Whether forces are the gradient of the energy."""
        return self.config.forces == "gradient"

    def forward(self, graph: AtomicGraph) -> ModelOutput:
        """Site energies (N,), network units, without references."""
        n = graph.n_atoms
        # One lone atom of each species rides along: its energy is subtracted, at no further pass.
        species = self.species_index[graph.numbers]
        alone = Alone.of(species, self.n_species)
        species = torch.cat([species, alone.species])
        vectors = graph.edge_vectors()
        seen, crowded = (vectors, None) if self.floor is None else self.floor(graph, vectors)
        edges = self._edges(graph, seen, species)
        features = self._embed(graph, species, edges)
        for layer in self.layers:
            features = layer(features, edges)
        structures = self._structures(graph)
        site = self._site_energies(features[:, 0], alone, edges, structures, graph)
        baseline, charges = self._baseline(graph, vectors, crowded, features[:, 0], alone)
        if self.bonded is not None:
            shift = self.bonded(species[:n], edges.coordination[:n])
            baseline = shift if baseline is None else baseline + shift
        real = features[:n]
        dipoles = None if self.dipole is None else self.dipole(real[:, 1:4], real[:, 0])
        tensors = None if self.polarizability is None else self.polarizability(real, species[:n])
        if self.direct_forces is None or self.direct_stress is None:
            return ModelOutput(site, baseline=baseline, charges=charges, dipoles=dipoles, polarizabilities=tensors)
        forces = self.direct_forces(real, graph.positions, graph.pbc, structures)
        stress = self.direct_stress(real, structures)
        return ModelOutput(site, forces, stress, baseline, dipoles=dipoles, polarizabilities=tensors)

    def _baseline(
        self, graph: AtomicGraph, vectors: Tensor, crowded: Tensor | None, scalars: Tensor, alone: Alone
    ) -> tuple[Tensor | None, ...]:
        """Energies (N,) eV of what is not learnt or acts beyond the cutoff, and latent charges (N,) e."""
        baseline = None if self.repulsion is None else self.repulsion(graph, vectors)
        if crowded is not None:
            baseline = crowded if baseline is None else baseline + crowded
        if self.long_range is None:
            return baseline, None
        n = graph.n_atoms
        lone = scalars[n:][alone.row] if self.config.isolated_atom == "zero" else None
        far, charges = self.long_range(scalars[:n], lone, baseline, graph)
        return far if baseline is None else baseline + far, charges

    def _edges(self, graph: AtomicGraph, vectors: Tensor, species: Tensor) -> Edges:
        """Lengths and directions of all pairs, and what all layers derive from them."""
        layout = dispatch.pairs(self.kernels, graph.center, graph.neighbor, species.shape[0], vectors)
        vectors = layout.arrange(vectors, vectors.new_full((3,), 2 * self.cutoff))
        distance = torch.sqrt((vectors * vectors).sum(1))
        envelope = polynomial_envelope(distance, self.cutoff)
        directed = harmonics(vectors / distance[:, None], self.config.l_max)
        coordination = layout.around.sum(envelope)
        radial = self.radial(distance, envelope)
        if self.bonds is not None:
            kinds = species[layout.around.center], species[layout.neighbor]
            radial = torch.cat([radial, self.bonds(distance, envelope, *kinds)], dim=1)
        return Edges(layout.around, layout.neighbor, envelope, radial, directed, coordination, layout.rows)

    def _embed(self, graph: AtomicGraph, species: Tensor, edges: Edges) -> Tensor:
        """h⁰: element and charge in the scalars, one look at the directions around in l > 0."""
        scalars = self.embedding(species)
        if self.charge is not None:
            scalars = scalars + nn.functional.pad(self.charge(graph), (0, 0, 0, species.shape[0] - graph.n_atoms))
        directions = self.directions(self.sender(species), edges)
        return torch.cat([scalars[:, None], directions], dim=1)

    def _structures(self, graph: AtomicGraph) -> Structures:
        """Which atoms belong together."""
        counts = graph.atoms_per_structure().to(graph.dtype)
        return Structures(graph.structure, counts, graph.n_structures)

    def _site_energies(
        self, scalars: Tensor, alone: Alone, edges: Edges, structures: Structures, graph: AtomicGraph
    ) -> Tensor:
        """Pooled energies per atom, less those of the lone atoms."""
        if not self.pooling.per_atom:
            return self.pooling(scalars[: graph.n_atoms], edges, structures)
        site = self.pooling(scalars, edges, structures)
        if self.config.isolated_atom != "zero":
            return site[: graph.n_atoms]
        return alone.less(site, graph.center if self.charge is None else None)

    def extra_repr(self) -> str:
        """The representation is part of the type."""
        return f"{self.n_species} species -> {self.config.irreps}, r_c = {self.cutoff} Å"


def _layers(config: MLANetConfig, irreps: o3.Irreps, mean_neighbors: float) -> list[InteractionLayer]:
    """T layers; the last one of a gradient model returns scalars, and what `outputs` are read from."""
    shape = AttentionShape(
        heads=config.heads,
        key_dim=config.key_dim,
        radial_functions=config.radial_functions + config.bond_functions,
        radial_hidden=config.radial_hidden,
        hidden=config.hidden,
        mean_neighbors=mean_neighbors,
        attention=config.attention,
        message=config.message,
        combine=config.combine,
        gate_channels=config.gate_channels,
        output_gate=config.output_gate,
        attention_envelope=config.attention_envelope,
    )
    layers = []
    for index in range(config.layers):
        last = index + 1 == config.layers and config.forces == "gradient"
        out = natural_irreps(config.channels, config.response_degree if last else config.l_max)
        layers.append(
            InteractionLayer(irreps, out, shape, product=config.node_product == "uuu", normalised=config.norm == "rms")
        )
    return layers
