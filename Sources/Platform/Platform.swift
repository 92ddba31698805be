// The operating system in memory-safe clothes: clock, files, sockets, epoll, threads, random numbers and the log line.
