# What is changed in LMDB's mdb.c before it is compiled; foreign.sh counts whether each change has found its place.
1i\
#define C_BAD 0x100 /* mdb_node_search has met a node that does not lie in its page */\
#define page_is_bad(mc, mp) ((mp)->mp_lower < PAGEHDRSZ || (mp)->mp_lower > (mp)->mp_upper || \\\
	(mp)->mp_upper > (mc)->mc_txn->mt_env->me_psize)\
/* A value that says it is several, in a table that has none of these, would be looked into. */\
#define node_is_bad(mc, mp, i) ((mp)->mp_ptrs[i] + NODESIZE > (mc)->mc_txn->mt_env->me_psize || \\\
	(mp)->mp_ptrs[i] + NODESIZE + NODEPTR(mp, i)->mn_ksize > (mc)->mc_txn->mt_env->me_psize || \\\
	(IS_LEAF(mp) && !(mc)->mc_xcursor && (NODEPTR(mp, i)->mn_flags & F_DUPDATA)))

# What it puts into one section of its own, since it is rarely called, the linker could not drop where it is never called.
s/__attribute__ ((section("text_env")))//

# It keeps the memory of a transaction's pages for ever. Here of a large one's as long as there is something to do (some more than
# Agent's pagesPerCommit), and of a small one's always.
/^struct MDB_env {/,/^}/ s/^\tMDB_page\t\*me_dpages;.*$/&\n\tunsigned me_kept;/
/^mdb_page_malloc(/,/^}/ s/^\t\t\tenv->me_dpages = ret->mp_next;$/&\n\t\t\tenv->me_kept--;/
/^mdb_page_free(/,/^}/ s/^\tmp->mp_next = env->me_dpages;$/\tif (env->me_kept >= 768) { free(mp); return; }\n\tenv->me_kept++;\n&/
$a\
void mdb_env_rest(MDB_env *env)\
{\
	for (; env->me_kept > 64; env->me_kept--) {\
		MDB_page *mp = env->me_dpages;\
		env->me_dpages = mp->mp_next;\
		free(mp);\
	}\
}

# After the disk did not take where the trees begin it writes nothing more. What was there before may still be read.
/^mdb_txn_renew0(/,/^}/ s/^\tif (env->me_flags & MDB_FATAL_ERROR) {$/\tif ((env->me_flags \& MDB_FATAL_ERROR) \&\& !(flags \& MDB_TXN_RDONLY)) {/

# On a damaged page any number may be any: lengths and places are held against the pages that they lie in, and what would end
# the process is an error.
/^mdb_node_read(/,/^}/ {
	s/^\t\tdata->mv_data = NODEDATA(leaf);$/&\n\t\tif ((char *)data->mv_data + data->mv_size > (char *)mc->mc_pg[mc->mc_top] + mc->mc_txn->mt_env->me_psize) return MDB_CORRUPTED;/
	s/^\tdata->mv_data = METADATA(omp);$/\tif (!IS_OVERFLOW(omp) || pgno + omp->mp_pages > mc->mc_txn->mt_next_pgno || \\\
		data->mv_size + PAGEHDRSZ > (size_t)omp->mp_pages * mc->mc_txn->mt_env->me_psize) return MDB_CORRUPTED;\n&/
}
/^mdb_node_search(/,/^}/ {
	s/^\tnkeys = NUMKEYS(mp);$/&\n\tif (page_is_bad(mc, mp)) goto bad;/
	s/^\t\t\tnodekey.mv_size = NODEKSZ(node);$/\t\t\tif (node_is_bad(mc, mp, i)) goto bad;\n&/
	s/^\treturn node;$/&\nbad:\n\tmc->mc_flags |= C_BAD;\n\tif (exactp)\n\t\t*exactp = 0;\n\treturn NULL;/
}
/^mdb_page_search(/,/^}/ {
	# A table whose name is not found any more is not an empty one: none is ever dropped.
	/mdb_page_search(&mc2/ {
		n
		s/if (rc)/if (rc == MDB_NOTFOUND) return MDB_CORRUPTED;\n&/
	}
	/^\t*if (!exact)$/ {
		n
		s/MDB_NOTFOUND/MDB_CORRUPTED/
	}
}
/^mdb_page_search_root(/,/^}/ {
	s/^\t\tmdb_cassert(mc, !mc->mc_dbi/\t\tif (page_is_bad(mc, mp)) return MDB_CORRUPTED;\n&/
	s/^\t\tnode = NODEPTR(mp, i);$/\t\tif (node_is_bad(mc, mp, i)) return MDB_CORRUPTED;\n&/
}
/^mdb_cursor_set(/,/^}/ {
	s/^\t\tif (!NUMKEYS(mp)) {$/\t\tif (page_is_bad(mc, mp)) return MDB_CORRUPTED;\n&/
	s/^\t*leaf = NODEPTR(mp, \(.*\));$/if (node_is_bad(mc, mp, \1)) return MDB_CORRUPTED;\n&/
}
/^mdb_cursor_next(/,/^}/ {
	s/^\tmp = mc->mc_pg\[mc->mc_top\];$/&\n\tif (page_is_bad(mc, mp)) return MDB_CORRUPTED;/
	s/^\tleaf = NODEPTR(mp, \(.*\));$/if (node_is_bad(mc, mp, \1)) return MDB_CORRUPTED;\n&/
}
/^mdb_cursor_last(/,/^}/ {
	s/^\tmc->mc_ki\[mc->mc_top\] = NUMKEYS.*$/if (page_is_bad(mc, mc->mc_pg[mc->mc_top])) return MDB_CORRUPTED;\n&/
	s/^\tleaf = NODEPTR(\(mc->mc_pg.*\), \(mc->mc_ki.*\));$/if (node_is_bad(mc, \1, \2)) return MDB_CORRUPTED;\n&/
}
/^mdb_cursor_first(/,/^}/ s/^\tleaf = NODEPTR(\(.*\), 0);$/if (node_is_bad(mc, \1, 0)) return MDB_CORRUPTED;\n&/
/^mdb_cursor_sibling(/,/^}/ {
	s/^\tindx = NODEPTR(\(mc->mc_pg.*\), \(mc->mc_ki.*\));$/if (node_is_bad(mc, \1, \2)) {\n\t\tmc->mc_flags \&= ~(C_INITIALIZED|C_EOF);\n\t\treturn MDB_CORRUPTED;\n\t}\n&/
}
/^mdb_\(page_search\|page_search_root\|cursor_set\|cursor_next\|cursor_first\|cursor_last\|cursor_sibling\)(/,/^}/ {
	s/mdb_cassert(mc, \(.*\));$/if (!(\1)) return MDB_CORRUPTED;/
	s/^.* = mdb_node_search(mc, key, &\{0,1\}exact.*);$/&\n\tif (mc->mc_flags \& C_BAD) { mc->mc_flags \&= ~C_BAD; return MDB_CORRUPTED; }/
}
