// The Common Expression Language: lexer, parser, checker, compiler and evaluator. Usable on its own.
