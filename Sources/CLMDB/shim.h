#include <lmdb.h>

// Of the LMDB that ships (Tools/lib/lmdb.sed): gives back what transactions have left in memory, in a writing one. Debian's
// keeps it for ever.
#ifdef __GLIBC__
static inline void mdb_env_rest(MDB_env *environment) { (void)environment; }
#else
void mdb_env_rest(MDB_env *environment);
#endif
