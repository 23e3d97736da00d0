"""Where pixels may show who the patient is."""
