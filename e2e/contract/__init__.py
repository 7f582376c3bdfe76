"""One contract suite for every engine: real vLLM, the simulator, and llm-d-inference-sim as a second opinion."""
