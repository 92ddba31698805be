// Puts the files of the console's page into the binary, packed where the build has packed them (Tools/lib/ship.sh), else as
// they are. Swift has no way of its own to do that.
#include "CConsole.h"

#pragma clang diagnostic ignored "-Wc23-extensions"

#if __has_embed(<console.html.gz>)
#define IS_PACKED true
static const unsigned char page[] = {
#embed <console.html.gz>
};
static const unsigned char style[] = {
#embed <console.css.gz>
};
static const unsigned char script[] = {
#embed <console.js.gz>
};
#else
#define IS_PACKED false
static const unsigned char page[] = {
#embed "console.html"
};
static const unsigned char style[] = {
#embed "console.css"
};
static const unsigned char script[] = {
#embed "console.js"
};
#endif

const unsigned char *console_file(int number, size_t *count) {
    *count = number == 0 ? sizeof page : number == 1 ? sizeof style : sizeof script;
    return number == 0 ? page : number == 1 ? style : script;
}

bool console_is_packed(void) { return IS_PACKED; }
