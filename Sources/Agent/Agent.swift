// Puts the rooms together: configuration, threads, life cycle and the pipeline of one event.
