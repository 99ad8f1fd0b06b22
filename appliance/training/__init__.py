"""Fine-tuning, in a process of its own: ``python -m appliance.training FOLDER`` (contract: ``domain/training.py``).

The only importer of torch, transformers and peft. The server starts it and reads its reports; it never imports it.
"""
