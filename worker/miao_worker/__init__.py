"""The worker: dequeues generations, feeds the engine, writes the journal."""
