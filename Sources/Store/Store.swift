// What is on disk: LMDB tables, the event log with its cursors, and the one writing transaction.
