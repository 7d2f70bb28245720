"""Direct heads: forces and stress read off the features, fast to evaluate and not the derivative of any energy."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlanet.irreps import o3
from mlanet.nn.equivariant import Linear, natural_irreps, to_e3nn
from mlanet.nn.pooling import Structures
from mlanet.nn.tensor_product import fully_connected
from mlanet.ops.filtered_sum.reference import FilterEdges, edge_filters
from mlanet.ops.segment import segment_mean, segment_sum

TYPICAL_VOLUME = 10.0
"""Å³ per atom: brings a virial per volume to order one."""


class DirectForces(nn.Module):
    """F_i = Linear(I -> 1x1o)(h_i) · gate(s_i), net force removed, net torque too for isolated molecules.

    - features (N, (L+1)², C), positions (N, 3) Å -> (N, 3), e3nn's 1o order is x, y, z
    """

    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps, o3.Irreps("1x1o")
        channels = irreps[0].mul
        self.weight = nn.Parameter(torch.randn(channels) / math.sqrt(channels))
        self.gate = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))

    def forward(self, features: Tensor, positions: Tensor, pbc: Tensor, structures: Structures) -> Tensor:
        """-> (N, 3), network units."""
        forces = (features[:, 1:4] @ self.weight) * self.gate(features[:, 0])
        return without_net_force(forces, positions, pbc, structures)


class VectorForces(nn.Module):
    """F_i = v_i · w_F; the net force, and of isolated molecules the net torque, taken out if asked for.

    - vectors v (N, 3, F), positions (N, 3) Å -> (N, 3), network units. Source: arXiv 2311.02869.
    """

    def __init__(self, channels: int, remove_net_force: bool) -> None:
        super().__init__()
        self.remove_net_force = remove_net_force
        self.weight = nn.Parameter(nn.Linear(channels, 1, bias=False).weight[0].detach())

    def forward(self, vectors: Tensor, positions: Tensor, pbc: Tensor, structures: Structures) -> Tensor:
        """-> (N, 3), network units."""
        forces = vectors @ self.weight
        return without_net_force(forces, positions, pbc, structures) if self.remove_net_force else forces


class EdgeStress(nn.Module):
    """σ = (V₀/V) Σ_ji f_ij û û, f_ij = Σ_c A_c(x_i) B_c(x_j) λ_c(d_ij), plus (V₀/V) Σ_i C(x_i) 1; V₀ = 10 Å³.

    Built on edges, because products of node vectors vanish in centrosymmetric crystals. - scalars (N', F) of at least
    the N atoms, edges, volume (S,) Å³ -> (S, 3, 3), network units
    """

    table: Tensor | None

    def __init__(self, channels: int, basis: int, width: int = 16) -> None:
        super().__init__()
        self.center = nn.Linear(channels, width)
        self.neighbor = nn.Linear(channels, width)
        self.filter = nn.Parameter(torch.randn(width, basis) / math.sqrt(basis * width))
        self.register_buffer("table", None, persistent=False)
        self.isotropic = nn.Linear(channels, 1)

    def tabulate(self, table: Tensor) -> None:
        """Read λ from a table (G, width) from now on."""
        self.table = table.to(self.filter)

    def forward(self, scalars: Tensor, edges: FilterEdges, volume: Tensor, structures: Structures) -> Tensor:
        """-> (S, 3, 3), symmetric."""
        n = structures.structure.shape[0]
        pairs = edges.around.spread(self.center(scalars)) * self.neighbor(scalars).index_select(0, edges.neighbor)
        strength = (pairs * edge_filters(edges, self.filter if self.table is None else self.table)).sum(1)
        dyads = edges.direction[:, :, None] * edges.direction[:, None, :]
        site = edges.around.sum(strength[:, None, None] * dyads)[:n]
        identity = torch.eye(3, dtype=site.dtype, device=site.device)
        site = site + self.isotropic(scalars[:n])[:, :, None] * identity
        virial = segment_sum(site, structures.structure, structures.n_structures)
        safe = torch.where(volume > 0, volume, torch.ones_like(volume))
        return virial * (TYPICAL_VOLUME / safe)[:, None, None]


def without_net_force(forces: Tensor, positions: Tensor, pbc: Tensor, structures: Structures) -> Tensor:
    """Forces (N, 3) less their mean over the structure, and for isolated molecules less the net torque."""
    forces = forces - segment_mean(forces, structures.structure, structures.n_structures)[structures.structure]
    return forces - torque_correction(forces, positions, pbc, structures)


def torque_correction(forces: Tensor, positions: Tensor, pbc: Tensor, structures: Structures) -> Tensor:
    """The smallest force field that carries the net torque: ω × r_i with Θ ω = τ, 0 for periodic structures.

    r_i from the centre of the atoms, Θ = Σ (r² 1 − r rᵀ), τ = Σ r × F. Singular Θ (linear molecules, one atom): the
    pseudo-inverse, since no torque exists along the axis.
    """
    index, n = structures.structure, structures.n_structures
    # The centre is taken off before rounding to the precision of the forces.
    r = (positions.detach() - segment_mean(positions.detach(), index, n)[index]).to(forces.dtype)
    square = (r * r).sum(1)[:, None, None] * torch.eye(3, dtype=r.dtype, device=r.device)
    inertia = segment_sum(square - r[:, :, None] * r[:, None, :], index, n)
    torque = segment_sum(torch.linalg.cross(r, forces), index, n)
    isolated = (~pbc.any(dim=1)).to(r.dtype)[:, None]
    spin = torch.einsum("sab,sb->sa", torch.linalg.pinv(inertia, hermitian=True, rtol=1e-6), torque) * isolated
    return torch.linalg.cross(spin[index], r)


class DirectStress(nn.Module):
    """σ = mean_i t_i, t_i = TP(p_i, p_i -> 1x0e + 1x2e), p_i = Linear(I -> 16x0e + 16x1o), plus Linear(I -> 0e + 2e).

    Works at L = 1; the linear 2e term needs L ≥ 2. In a centrosymmetric crystal p has no vectors, so at L = 1 only the
    isotropic part is left. - features (N, (L+1)², C) -> (S, 3, 3)
    """

    def __init__(self, irreps: o3.Irreps, width: int = 16) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = irreps, o3.Irreps("1x0e+1x2e")
        pairs = natural_irreps(width, 1)
        self.pair = Linear(irreps, pairs)
        self.product = fully_connected(pairs, pairs, self.irreps_out)
        self.scalar = nn.Linear(irreps[0].mul, 1)
        self.tensor = nn.Parameter(torch.randn(irreps[0].mul) / math.sqrt(irreps[0].mul)) if irreps.lmax >= 2 else None

    def forward(self, features: Tensor, structures: Structures) -> Tensor:
        """-> (S, 3, 3), network units, symmetric."""
        pairs = to_e3nn(self.pair(features))
        site = self.product(pairs, pairs)
        site = site + nn.functional.pad(self.scalar(features[:, 0]), (0, 5))
        if self.tensor is not None:
            site = site + nn.functional.pad(features[:, 4:9] @ self.tensor, (1, 0))
        mean = segment_mean(site, structures.structure, structures.n_structures)
        return (mean @ symmetric_basis(mean)).view(-1, 3, 3)


def symmetric_basis(like: Tensor) -> Tensor:
    """(6, 9): rows are the unit trace and the five symmetric traceless unit matrices of e3nn's 2e, flattened."""
    trace = torch.eye(3, dtype=torch.float64).reshape(1, 9) / math.sqrt(3)
    traceless = o3.wigner_3j(2, 1, 1, dtype=torch.float64).reshape(5, 9) * math.sqrt(5)
    return torch.cat([trace, traceless]).to(like)
