// What LAMMPS calls at `plugin load`: it gets the pair style, if it is the LAMMPS that this was compiled for.
#include <cstring>

#include "comm.h"
#include "error.h"
#include "lammps.h"
#include "pair_mlanet.hpp"

// As in lammpsplugin.h, which packages of LAMMPS leave out.
extern "C" {
typedef void* (*Factory)(LAMMPS_NS::LAMMPS*);
struct Plugin {
    const char *version, *style, *name, *info, *author;
    union {
        Factory make;
        void* other;
    } creator;
    void* handle;
};
typedef void (*Register)(Plugin*, void*);
// Of LAMMPS' C library, whose answers do not depend on how its classes are laid out.
int lammps_version(void*) __attribute__((weak));
}

static void* make(LAMMPS_NS::LAMMPS* lmp) { return new LAMMPS_NS::PairMLANet(lmp); }

extern "C" void lammpsplugin_init(void* lmp, void* handle, void* enter) {
    auto* lammps = static_cast<LAMMPS_NS::LAMMPS*>(lmp);
    const bool same = lammps_version ? lammps_version(lmp) == MLANET_LAMMPS_NUMBER
                                     : !std::strcmp(lammps->version, MLANET_LAMMPS_VERSION);
    if (!same)
        lammps->error->all(FLERR, "this plugin was compiled for LAMMPS {}, this is {}; compile it anew: mlanet lammps build",
                           MLANET_LAMMPS_VERSION, lammps->version);
    Plugin plugin{};
    plugin.version = MLANET_LAMMPS_VERSION, plugin.style = "pair", plugin.name = "mlanet";
    plugin.info = "models of mlanet " MLANET_VERSION, plugin.author = "the mlanet developers";
    plugin.creator.make = make, plugin.handle = handle;
    reinterpret_cast<Register>(enter)(&plugin, lmp);
}
