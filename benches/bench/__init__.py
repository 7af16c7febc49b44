"""The benchmark harness: it puts the same load on several servers, and reports what each costs."""
