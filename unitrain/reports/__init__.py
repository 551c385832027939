"""What people look at after a run: pages for a browser, the record of a run.

Private. It knows no trainer: what it shows is given to it. Start reading in `run/page.py`: the page of a run.
"""
