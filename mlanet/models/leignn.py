"""LEIGNN: a lightweight scalar-vector network, after arXiv 2311.02869 (npj Comput. Mater. 11, 49, as E2GNN).

The defaults are the physically consistent form: energies that are smooth, additive and extensive, forces that are
their gradient. The form as published is the preset `leignn_paper`; every repair between the two is a switch
(docs/models/leignn.md).
"""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mlanet.config import require_at_most
from mlanet.graph import AtomicGraph, ModelOutput
from mlanet.models.contract import Model, ModelSettings
from mlanet.nn.alone import Alone
from mlanet.nn.edges import nearest
from mlanet.nn.electric import AtomicDipoles
from mlanet.nn.embedding import ChargeEmbedding
from mlanet.nn.floor import distance_floor
from mlanet.nn.heads import EdgeStress, VectorForces
from mlanet.nn.long_range import LongRange, LongRangeSettings
from mlanet.nn.pooling import Structures
from mlanet.nn.radial import BesselBasis, GaussianBasis, polynomial_envelope
from mlanet.nn.repulsion import WALL_LAWS, ScreenedRepulsion
from mlanet.nn.scalar_vector import Aggregate, Distribute, GatedUpdate, GlobalNode, Message, PaiNNUpdate, two_layers
from mlanet.nn.spline import coefficients, rows_and_weights
from mlanet.ops import dispatch
from mlanet.ops.filtered_sum.reference import FilterEdges
from mlanet.quantities import Output
from mlanet.statistics import Statistics
from mlanet.units import MAX_CUTOFF

ENVELOPE_POWER = 5
TABLE_ROWS_PER_FUNCTION = 32
"""Intervals of the filters' tables for each radial function."""


MOST = {"channels": 4096, "layers": 64, "radial_functions": 512, "cutoff": MAX_CUTOFF}
"""Largest supported values, so that no network is begun that cannot be built."""


class LEIGNNConfig(
    LongRangeSettings,
    ModelSettings,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="model",
    tag="leignn",
):
    """Everything that shapes the network; E-cost is cost per edge, N-cost per atom."""

    channels: int = 128
    """F scalars and F vectors per atom (`Fx0e+Fx1o`), even; N-cost grows as F², E-cost as F."""
    layers: int = 3
    """Message-passing layers T; the receptive field is T times the cutoff."""
    cutoff: float = 5.0
    """D in Å; edges grow as its cube."""
    radial_basis: Literal["bessel", "gaussian"] = "bessel"
    """`bessel` sin(kr)/r resolves where bonds are; `gaussian`, as published, is equally fine everywhere."""
    radial_functions: int = 12
    """Functions K on [0, D]; E-cost grows with K, and more than some 32 make the energy ripple."""
    filter_bias: Literal["enveloped", "raw", "none"] = "enveloped"
    """Bias of the filter; `raw` does not fade at the cutoff: the energy jumps as a neighbour leaves."""
    scaling: Literal["none", "published"] = "none"
    """`published`: messages times 1/√3, those of vectors times 1/√F, scalars times 1/√2 in every layer."""
    update: Literal["nmu", "painn"] = "nmu"
    """Node memory update, or that of PaiNN (the ablation "Vanilla")."""
    invariant: Literal["soft", "squared", "norm"] = "soft"
    """What of a vector scalars see; `norm` has a cusp at symmetric sites, which spoils phonons; `squared` has none, but
    grows fast far from the data; `soft` √(1 + v²) − 1 is smooth and grows slowly."""
    global_node: bool = False
    """A mean over the whole structure in every layer: not additive, not local (N-cost of the network +80 %)."""
    neighbor_cap: int | None = None
    """Keep about so many nearest neighbours; forces then jump as atoms pass each other."""
    forces: Literal["gradient", "direct"] = "gradient"
    """`gradient`: F = −∂E/∂R and stress from strain. `direct`: heads, about twice as fast, not conservative."""
    direct_stress: Literal["edge", "none"] = "edge"
    """With `forces: direct`: a stress read off the edges, or none at all."""
    remove_net_force: bool = True
    """With `forces: direct`: subtract the mean force, and for molecules the net torque."""
    repulsion: Literal["none", "zbl"] = "zbl"
    """`zbl` adds the screened nuclear repulsion nearer than any training data, where nothing says that atoms repel."""
    isolated_atom: Literal["zero", "free"] = "zero"
    """`zero`: a lone atom has exactly its reference energy E₀."""
    outputs: tuple[Output, ...] = ()
    """`dipole`, of structures that are periodic in no direction, beside energy, forces and stress. The last layer then
    keeps its vectors."""

    def __post_init__(self) -> None:
        self.long_range_errors()
        for name in ("channels", "layers", "cutoff"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        require_at_most(self, MOST)
        if self.channels % 2:
            raise ValueError(f"channels must be even, got {self.channels}")
        if self.radial_functions < 2:
            raise ValueError(f"radial_functions must be at least 2, got {self.radial_functions}")
        if set(self.outputs) - {"dipole"} or len(self.outputs) > 1:
            raise ValueError(
                f"outputs: {', '.join(self.outputs)}: LEIGNN has scalars and vectors only, and gives a dipole, named "
                "once; a polarizability is read from features of degree 2, which MLANet with l_max 2 or 3 has"
            )
        if self.neighbor_cap is not None and self.neighbor_cap < 1:
            raise ValueError(f"neighbor_cap must be at least 1 or left out, got {self.neighbor_cap}")

    @property
    def l_max(self) -> int:
        """Highest degree of the features: scalars and vectors."""
        return 1

    @property
    def broken_laws(self) -> frozenset[str]:
        """Names of the laws (`mlanet.laws`) that the switches give up."""
        broken = set()
        if self.global_node:
            broken |= {"far fragments"}
        if self.filter_bias == "raw":
            broken |= {"last neighbour", "leaving neighbour"}
        if self.neighbor_cap is not None:
            broken |= {"leaving neighbour", "reciprocity"}
        if self.forces == "direct":
            broken |= {"forces", "stress", "reciprocity", "leaving neighbour"}
            broken |= set() if self.remove_net_force else {"net force", "net torque"}
            broken |= {"stress symmetry"} if self.direct_stress == "none" else set()
        if self.isolated_atom == "free":
            broken |= {"lone atom"}
        if self.repulsion == "none" or self.forces == "direct":
            broken |= WALL_LAWS
        return frozenset(broken | self.long_range_broken | self.charge_broken)

    def build(self, statistics: Statistics) -> LEIGNN:
        """The untrained network."""
        return LEIGNN(self, statistics)


class LEIGNN(Model):
    """Graph -> site energies (and direct forces and stress if configured).

    Args:
        config: shape and switches.
        statistics: species it will know, and what the training set says of their environments.
    """

    config: LEIGNNConfig
    species_index: Tensor

    def __init__(self, config: LEIGNNConfig, statistics: Statistics) -> None:
        super().__init__(config)
        species = statistics.species
        channels, direct = config.channels, config.forces == "direct"
        index = torch.full((256,), len(species), dtype=torch.int64)
        index[list(species)] = torch.arange(len(species))
        self.register_buffer("species_index", index, persistent=False)
        self.n_species = len(species)
        self.embedding = nn.Embedding(len(species), channels)
        nn.init.uniform_(self.embedding.weight, -math.sqrt(3), math.sqrt(3))
        basis = GaussianBasis if config.radial_basis == "gaussian" else BesselBasis
        self.radial = basis(config.radial_functions, config.cutoff)
        self.whole = nn.Parameter(torch.randn(1, channels)) if config.global_node else None
        self.layers = nn.ModuleList(
            ScalarVectorLayer(config, first=k == 0, last=k + 1 == config.layers) for k in range(config.layers)
        )
        self.charge = None if config.charge == "none" else ChargeEmbedding(channels, config)
        self.readout = two_layers(channels, channels // 2, 1)
        self.direct_forces = VectorForces(channels, config.remove_net_force) if direct else None
        self.direct_stress = (
            EdgeStress(channels, basis_size(config)) if direct and config.direct_stress == "edge" else None
        )
        self.intervals = 0
        self.repulsion = ScreenedRepulsion(statistics) if config.repulsion == "zbl" else None
        self.floor = distance_floor(statistics, config.cutoff) if config.repulsion == "zbl" else None
        self.long_range = None if config.long_range == "none" else LongRange(config, statistics, channels)
        self.dipole = AtomicDipoles(channels) if config.outputs else None

    def without_kernels(self) -> str:
        """Nothing: every configuration may have kernels."""
        return ""

    def kernels_obstacle(self) -> str:
        """Why kernels do not serve this model where it is and in its precision; empty if they do."""
        return dispatch.obstacle(self.embedding.weight)

    def last_linear(self) -> nn.Linear | None:
        """The end of the read-out of each atom."""
        last = self.readout[-1]
        return last if isinstance(last, nn.Linear) else None

    @property
    def conservative(self) -> bool:
        """Whether forces are the gradient of the energy."""
        return self.config.forces == "gradient"

    def forward(self, graph: AtomicGraph) -> ModelOutput:
        """Site energies (N,), network units, without references."""
        graph = self._capped(graph)
        n = graph.n_atoms
        # One lone atom of each species rides along, each a structure of its own; its energy is subtracted.
        species = self.species_index[graph.numbers]
        alone = (
            Alone.of(species, self.n_species) if self.config.isolated_atom == "zero" else Alone(species[:0], species)
        )
        species = torch.cat([species, alone.species])
        structures = _structures(graph, len(alone.species))
        pairs = graph.edge_vectors()
        seen, crowded = (pairs, None) if self.floor is None else self.floor(graph, pairs)
        edges = self._edges(graph, seen, species.shape[0])
        scalars, vectors = self._features(self._embedded(graph, species), edges, structures)
        site = self.readout(scalars)[:, 0]
        if len(alone.species):
            site = alone.less(site, graph.center if self.charge is None and self.whole is None else None)
        baseline, charges = self._baseline(graph, pairs, crowded, scalars, alone)
        dipoles = None if self.dipole is None or vectors is None else self.dipole(vectors[:n], scalars[:n])
        if self.direct_forces is None:
            return ModelOutput(site, baseline=baseline, charges=charges, dipoles=dipoles)
        assert vectors is not None
        real = _structures(graph, 0)
        forces = self.direct_forces(vectors[:n], graph.positions, graph.pbc, real)
        stress = (
            None
            if self.direct_stress is None
            else self.direct_stress(scalars, edges, graph.volume().to(graph.dtype), real)
        )
        return ModelOutput(site, forces, stress, baseline, dipoles=dipoles)

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
        lone = scalars[n:][alone.row] if scalars.shape[0] > n else None
        far, charges = self.long_range(scalars[:n], lone, baseline, graph)
        return far if baseline is None else baseline + far, charges

    def _embedded(self, graph: AtomicGraph, species: Tensor) -> Tensor:
        """(N', F): element and charge; lone atoms have none."""
        scalars: Tensor = self.embedding(species)
        if self.charge is None:
            return scalars
        return scalars + nn.functional.pad(self.charge(graph), (0, 0, 0, species.shape[0] - graph.n_atoms))

    def _features(self, scalars: Tensor, edges: FilterEdges, structures: Structures) -> tuple[Tensor, Tensor | None]:
        """Scalars and vectors after the last layer."""
        vectors: Tensor | None = None
        whole = None
        if self.whole is not None:
            whole = GlobalNode(self.whole.expand(structures.n_structures, -1), None)
        for layer in self.layers:
            scalars, vectors, whole = layer(scalars, vectors, whole, edges, structures)
        return scalars, vectors

    def _capped(self, graph: AtomicGraph) -> AtomicGraph:
        """The graph without the edges that the cap drops."""
        cap = self.config.neighbor_cap
        if cap is None:
            return graph
        near = graph.edge_vectors().norm(dim=1)
        inside = near <= self.cutoff
        graph = _chosen(graph, inside)
        return _chosen(graph, nearest(graph.center, near[inside], graph.n_atoms, cap))

    def _edges(self, graph: AtomicGraph, vectors: Tensor, n_nodes: int) -> FilterEdges:
        """Lengths, directions and basis of all pairs."""
        kernels = dispatch.PLAIN if self.intervals else self.kernels
        layout = dispatch.pairs(kernels, graph.center, graph.neighbor, n_nodes, vectors)
        vectors = layout.arrange(vectors, vectors.new_full((3,), 2 * self.cutoff))
        distance = torch.sqrt((vectors * vectors).sum(1))
        envelope = polynomial_envelope(distance, self.cutoff, ENVELOPE_POWER)
        direction = -vectors / distance[:, None]
        if self.intervals:
            rows, weights = self._table_rows(distance, envelope)
            return dispatch.filter_edges(layout, weights, direction, rows)
        basis = self.radial(distance, envelope)
        if self.config.filter_bias == "enveloped":
            basis = torch.cat([basis, envelope[:, None]], dim=1)
        if self.config.filter_bias == "raw":
            basis = torch.cat([basis, (distance <= self.cutoff).to(basis.dtype)[:, None]], dim=1)
        return dispatch.filter_edges(layout, basis, direction)

    def _table_rows(self, distance: Tensor, envelope: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the filters' tables and their weights, the envelope in them; a raw bias is the last row."""
        rows, weights = rows_and_weights(distance, self.cutoff / self.intervals, self.intervals)
        weights = weights * envelope[:, None]
        if self.config.filter_bias == "raw":
            inside = (distance <= self.cutoff).to(weights.dtype)[:, None]
            weights = torch.cat([weights, inside], dim=1)
            rows = torch.cat([rows, torch.full_like(rows[:, :1], self.intervals + 3)], dim=1)
        return rows, weights

    def tabulate(self, per_function: int = TABLE_ROWS_PER_FUNCTION) -> LEIGNN:
        """Read the filters from cubic splines from now on: for inference, once differentiable. Returns the model.

        Forces differ by less than 10⁻⁴ of their size by default, falling as the third power of `per_function`; time
        per edge no longer depends on the number of radial functions.
        """
        count = (self.config.radial_functions - 1) * per_function
        distance = torch.linspace(0.0, self.cutoff, count + 1, dtype=torch.float64)
        functions, curvature = self._sampled(distance)
        filtered: list[Message | EdgeStress] = [
            module for module in self.modules() if isinstance(module, Message | EdgeStress)
        ]
        for module in filtered:
            weight = module.filter.detach().cpu().double().numpy()
            shape = weight[:, : self.config.radial_functions].T
            values, bends = functions @ shape, curvature @ shape
            if self.config.filter_bias == "enveloped":
                values = values + weight[:, -1]
            table = coefficients(values, bends)
            if self.config.filter_bias == "raw":
                table = np.concatenate([table, weight[None, :, -1]])
            module.tabulate(torch.from_numpy(table))
        self.intervals = count
        return self.eval().requires_grad_(False)

    def _sampled(self, distance: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """(G+1, K) the basis without its envelope, and (2, K) h² times its curvature at both ends (0 at d = 0)."""
        radial = copy.deepcopy(self.radial).to("cpu", torch.float64)
        step = float(distance[1])
        place = distance.clamp(min=1e-3 * step)
        values = radial(place, torch.ones_like(place)).detach().numpy()
        around = distance[-1] + 0.01 * step * torch.arange(-1.0, 2.0, dtype=torch.float64)
        ends = radial(around, torch.ones_like(around)).detach().numpy()
        bend = (ends[0] - 2 * ends[1] + ends[2]) / 0.01**2
        return values, np.stack([np.zeros_like(bend), bend])

    def extra_repr(self) -> str:
        """Sizes at a glance."""
        width = self.config.channels
        return f"{self.n_species} species -> {width}x0e+{width}x1o, r_c = {self.cutoff} Å"


class ScalarVectorLayer(nn.Module):
    """Distribute, message, update, aggregate; what would feed nothing (first and last layer) is not built."""

    def __init__(self, config: LEIGNNConfig, *, first: bool, last: bool) -> None:
        super().__init__()
        channels = config.channels
        update = GatedUpdate if config.update == "nmu" else PaiNNUpdate
        reads_vectors = config.forces == "direct" or bool(config.outputs)
        self.distribute = Distribute(channels, first=first) if config.global_node else None
        self.message = Message(channels, basis_size(config), first=first, scaled=config.scaling == "published")
        self.update = update(channels, invariant=config.invariant, scalars_only=last and not reads_vectors)
        self.aggregate = Aggregate(channels) if config.global_node and not last else None

    def forward(
        self,
        scalars: Tensor,
        vectors: Tensor | None,
        whole: GlobalNode | None,
        edges: FilterEdges,
        structures: Structures,
    ) -> tuple[Tensor, Tensor | None, GlobalNode | None]:
        """-> x (N, F), v (N, 3, F) or None, global node or None."""
        if self.distribute is not None and whole is not None:
            scalars, vectors = self.distribute(scalars, vectors, whole, structures)
        scalars, vectors = self.update(*self.message(scalars, vectors, edges))
        if self.aggregate is not None and whole is not None and vectors is not None:
            whole = self.aggregate(scalars, vectors, whole, structures)
        return scalars, vectors, whole


def basis_size(config: LEIGNNConfig) -> int:
    """Functions that the filter is linear in: K, and one for its bias."""
    return config.radial_functions + (config.filter_bias != "none")


def _structures(graph: AtomicGraph, n_alone: int) -> Structures:
    """Which atoms belong together; each of those that ride along stands alone."""
    counts = graph.atoms_per_structure().to(graph.dtype)
    n_structures = graph.n_structures + n_alone
    index = torch.cat([graph.structure, torch.arange(graph.n_structures, n_structures, device=counts.device)])
    return Structures(index, torch.cat([counts, counts.new_ones(n_alone)]), n_structures)


def _chosen(graph: AtomicGraph, kept: Tensor) -> AtomicGraph:
    """The graph with the edges of a mask (E,)."""
    return dataclasses.replace(graph, center=graph.center[kept], neighbor=graph.neighbor[kept], shift=graph.shift[kept])
