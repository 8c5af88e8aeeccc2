-- A run whose routing is published before the rest of it is measured (moe_core/runs/layout.py, Manifest).
ALTER TABLE runs ADD COLUMN complete BOOLEAN DEFAULT true;
