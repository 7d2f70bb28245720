"""The sixty checks: what is promised, and how the figure that is reached is measured."""

from __future__ import annotations

from reliability import dynamics, landscape
from reliability.check import Check, not_here, tests
from reliability.laws import forces_of_each_part, law

GPU = not_here("needs a GPU: `pytest tests/test_on_gpu.py`")

CHECKS: tuple[Check, ...] = (
    # Symmetry
    Check(
        1,
        "Rotations: E is unchanged, F turns with the structure",
        "1e-11 (float64), 2e-5 (float32)",
        law("rotation", double=1e-11, single=2e-5),
    ),
    Check(2, "Mirror and inversion: the same", "1e-11, 2e-5", law("inversion", double=1e-11, single=2e-5)),
    Check(
        3,
        "Stress turns as R σ Rᵀ, and is symmetric",
        "1e-11",
        law("rotation", "stress symmetry", double=1e-11),
    ),
    Check(
        4,
        "Every layer turns as its irreps say, l = 0 to 3",
        "1e-10",
        tests("nn/test_layers.py", "nn/test_embedding_and_pooling.py"),
    ),
    Check(
        5,
        "Translation by 1000 Å and by 100 lattice vectors",
        "1e-9, 1e-4",
        law("translation", double=1e-9, single=1e-4),
    ),
    Check(6, "Order of atoms", "1e-12, 1e-6", law("permutation", double=1e-12, single=1e-6)),
    Check(7, "Enantiomers have one energy", "1e-11", law("inversion", double=1e-11)),
    Check(
        8,
        "Skewed and left-handed bases of one lattice",
        "1e-10, 1e-4",
        law("cell choice", double=1e-10, single=1e-4),
    ),
    Check(9, "Any image of an atom", "1e-11, 1e-5", law("wrapping", double=1e-11, single=1e-5)),
    Check(10, "n copies have n times the energy", "1e-12, 1e-6", law("supercell", double=1e-12, single=1e-6)),
    Check(11, "Far molecules add up", "1e-12, 1e-6", law("far fragments", double=1e-12, single=1e-6)),
    Check(12, "Company in a batch changes nothing", "1e-12, 1e-6", law("batching", double=1e-12, single=1e-6)),
    Check(
        13,
        "No gradient crosses structures",
        "exactly 0",
        tests("test_laws.py::test_no_gradient_crosses_structures"),
    ),
    Check(14, "Empty space of slabs and wires costs nothing", "1e-12, 1e-5", law("vacuum", double=1e-12, single=1e-5)),
    # Derivatives
    Check(15, "F = −∂E/∂R, fourth-order differences", "1e-6 relative", law("forces", double=1e-6)),
    Check(
        16,
        "σ = (1/V) ∂E/∂ε, six strains, crystals, slabs and wires",
        "1e-6 relative",
        law("stress", double=1e-6),
    ),
    Check(
        17,
        "First and second derivatives of every operation",
        "torch's gradcheck",
        tests("ops/test_fused.py", "ops/test_long_range_sums.py", "ops/test_segment_and_table.py"),
        long=True,
    ),
    Check(
        18,
        "∂L/∂θ of a loss on E, F and σ against differences",
        "1e-6 relative",
        tests("test_laws.py::test_parameter_gradients_of_the_loss"),
    ),
    Check(
        19,
        "F = −∂E/∂R with each part of the network changed by itself",
        "1e-6 relative",
        forces_of_each_part,
        long=True,
    ),
    Check(20, "No net force, no net torque", "1e-11, 1e-4", law("net force", "net torque", double=1e-11, single=1e-4)),
    Check(
        21,
        "σ is symmetric, site energies add up",
        "1e-12, 1e-6",
        law("stress symmetry", "site energies", double=1e-12, single=1e-6),
    ),
    Check(22, "The Hessian is symmetric", "1e-6 relative", law("reciprocity", double=1e-6)),
    Check(23, "Translations cost nothing in the Hessian", "1e-5 eV/Å²", landscape.zero_modes),
    Check(
        24,
        "A neighbour enters and leaves smoothly: E, F, dF/dr",
        "1e-13 eV, 1e-9 eV/Å, 1e-3 eV/Å²",
        landscape.at_the_cutoff,
    ),
    Check(
        25,
        "No neighbour is dropped silently",
        "all edges of ASE's list",
        tests("data/test_neighbors.py", "data/test_neighbor_tensors.py"),
    ),
    Check(
        26,
        "Every pair repels, and a crushed crystal costs energy",
        "no minimum inside",
        tests("test_wall.py"),
    ),
    Check(27, "A stretched bond has a smooth energy", "1e-6 eV a step", landscape.stretched_bond),
    # Dynamics
    Check(
        28,
        "A skin list equals a fresh one",
        "1e-11",
        tests("test_calculator_skin.py"),
    ),
    Check(29, "Neighbours equal ASE's in random cells", "identical", tests("data/test_neighbors.py")),
    Check(
        30,
        "Energy is conserved, 50 ps at 0.5 fs, three crystals",
        "0.01 meV/atom/ps",
        dynamics.drift,
        long=True,
    ),
    Check(31, "The error of the energy goes as dt²", "exponent 2.0 ± 0.1", dynamics.order_of_the_error),
    Check(32, "1000 steps are reversible", "1e-6 Å", dynamics.reversibility),
    # Precision
    Check(33, "float32 against float64", "0.1 meV/atom, 1 meV/Å", landscape.single_precision),
    Check(
        34,
        "References of −6·10⁶ eV cost no digit",
        "1e-8 eV/atom",
        tests("test_laws.py::test_large_offsets_keep_their_digits"),
    ),
    Check(35, "Fewer digits only on request, settings restored", "asserted", tests("test_precision.py")),
    Check(36, "CPU against GPU", "1e-10, 1e-5", GPU),
    Check(
        37,
        "Compiled steps against plain ones, gradients included",
        "1e-11, 2e-5",
        tests("test_compiled.py"),
        long=True,
    ),
    Check(
        38,
        "One compiled program for all sizes",
        "at most 2 graphs",
        tests("test_compiled.py::test_one_program_for_all_sizes"),
        long=True,
    ),
    Check(
        39,
        "Fast kernels against the reference, second derivatives included",
        "1e-11, 1e-5",
        tests("ops/test_fused.py", "test_kernels.py"),
        long=True,
    ),
    # Training
    Check(
        40,
        "Two trainings are equal",
        "to the bit",
        tests("training/test_trainer.py::test_two_runs_are_equal_to_the_bit"),
    ),
    Check(41, "A GPU repeats itself", "to the bit", GPU),
    Check(
        42,
        "Batches do not depend on how they are made",
        "identical",
        tests("data/test_loader.py"),
    ),
    Check(
        43,
        "Several processes take the steps of one",
        "1e-12 relative",
        tests("training/test_processes.py"),
        long=True,
    ),
    Check(44, "A resumed training is the uninterrupted one", "to the bit", tests("training/test_resume.py"), long=True),
    # Faults
    Check(
        45,
        "Killed while saving: no unreadable file",
        "0 of 200",
        tests("test_checkpoint_faults.py::test_kill_at_any_instant_leaves_a_whole_file"),
    ),
    Check(
        46,
        "Disk full, read-only, failing, over quota: the last file stays",
        "all refused",
        tests("test_checkpoint_faults.py", "cli/test_bad_input.py"),
    ),
    Check(
        47,
        "SIGTERM and SIGUSR1 save and end with their status",
        "exact resume",
        tests(
            "training/test_resume.py::test_a_queue_system_ends_a_process",
            "training/test_resume.py::test_sigusr1_saves_and_goes_on",
        ),
    ),
    Check(
        48,
        "Flipped bits and truncations are found",
        "all",
        tests(
            "test_checkpoint_faults.py::test_every_single_flipped_bit_of_a_small_state_is_detected",
            "test_checkpoint_faults.py::test_damaged_models_are_always_detected",
        ),
    ),
    Check(
        49,
        "Older files load and say the same",
        "1e-10",
        tests("test_checkpoint.py::test_the_packaged_model_stays_what_it_is"),
    ),
    Check(
        50,
        "Malicious files run nothing",
        "0 payloads",
        tests(
            "test_checkpoint.py::test_files_of_other_kinds_are_refused_and_nothing_runs",
            "test_checkpoint.py::test_signed_files_with_a_nonsense_content_are_refused",
            "test_config.py",
        ),
    ),
    # Structures
    Check(51, "Lone atoms and graphs without edges", "E = ΣE₀, F = 0", law("lone atom", double=1e-10)),
    Check(
        52,
        "Atoms on top of each other, nonsense cells and numbers are refused",
        "typed errors",
        tests("data/test_atoms.py"),
    ),
    Check(
        53,
        "Nothing that is not finite is written",
        "typed errors",
        tests("test_bounds.py", "test_inference.py"),
    ),
    Check(
        54,
        "Unknown elements are named before anything is computed",
        "typed errors",
        tests("cli/test_bad_input.py::test_unknown_element_lists_the_known_ones", "test_potential.py"),
    ),
    Check(
        55,
        "Stress only where it has a meaning",
        "NaN or an error otherwise",
        tests("test_potential.py::test_stress_only_where_something_is_periodic", "test_calculator.py"),
    ),
    Check(
        56, "Extreme cells and cutoffs are bounded", "typed errors", tests("test_bounds.py", "data/test_neighbors.py")
    ),
    Check(57, "10 000 fuzzed inputs", "no traceback, NaN, hang", not_here("see `make fuzz`"), long=True),
    Check(
        58,
        "The audit finds injected faults, accuses nobody else",
        "all, 0",
        tests("data/test_audit.py", "data/test_readings.py"),
    ),
    Check(59, "10 000 steps of dynamics leave no memory behind", "0.1 kB a step", dynamics.leak, long=True),
    Check(
        60,
        "Forecast of memory against the count",
        "10 % (95th percentile)",
        tests("profiling/test_forecast.py"),
        long=True,
    ),
)
